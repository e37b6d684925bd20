"""CSV, TSV and Parquet: each row becomes a job, or is rejected with the reason."""

from __future__ import annotations

import json
import tracemalloc
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightmill.errors import SourceError
from nightmill.sources import (
    Line,
    Rejected,
    Template,
    check_source,
    read_checked,
    read_source,
    source_of,
)
from tests.producer.sources.reading import DEFAULTS, ROWS, SAY, asked, jobs, read, write


def parquet(folder: Path, **columns: object) -> Path:
    """Write a Parquet file."""
    path = folder / "in.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_a_csv_row_has_the_line_it_begins_on(tmp_path: Path) -> None:
    """The number is the one an editor shows. A cell may have several lines."""
    data = b'\xef\xbb\xbftext, n\r\n"one\r\ntwo",1\r\n\r\nthree,2\r\n"say ""hi""",3'
    path = write(tmp_path, "in.csv", data)
    assert asked(path, Template(prompt="{{ text }}/{{ n }}")) == {
        "line-2": "one\r\ntwo/1",
        "line-5": "three/2",
        "line-6": 'say "hi"/3',
    }


def test_a_csv_of_requests_needs_no_template(tmp_path: Path) -> None:
    """A CSV has only text. Numbers are read as numbers, and empty cells are left out."""
    data = b"custom_id,prompt,max_tokens,temperature,system\n7,12,5,,Be brief\n,Yo,,0.5,\n"
    found = jobs(write(tmp_path, "in.csv", data))
    assert found["7"]["messages"][0]["content"] == "12"
    assert (found["7"]["max_tokens"], found["7"]["system"]) == (5, "Be brief")
    assert "temperature" not in found["7"]
    assert (found["line-3"]["max_tokens"], found["line-3"]["temperature"]) == (64, 0.5)
    assert "system" not in found["line-3"]


@pytest.mark.parametrize(
    ("row", "line", "message"),
    [
        (b"only one", 2, "1 cell in this row; the header has 2 columns"),
        (b"a,b,c", 2, "3 cells in this row; the header has 2 columns; a cell that holds"),
        (b"a,\xff", 2, "n: not UTF-8 (byte 0xff at 0)"),
        (b'"a"b,1', 2, "a quote inside a cell is written twice"),
        (b"x" * (4 << 20) + b",1", 2, "the line is 4,194,307 bytes"),
    ],
)
def test_a_bad_csv_row_names_its_line(tmp_path: Path, row: bytes, line: int, message: str) -> None:
    """Reading goes on: with --skip-bad the rest of the table is fed."""
    first, *rest = read(write(tmp_path, "in.csv", b"text,n\n" + row + b"\nfine,2\n"), SAY)
    assert isinstance(first, Rejected)
    assert str(first.error).startswith(f"line {line}: ")
    assert message in str(first.error)
    assert [type(each) for each in rest] == [Line]


def test_a_large_cell_is_a_prompt_like_any_other(tmp_path: Path) -> None:
    """The csv module's own limit, 128 kB, does not apply."""
    path = write(tmp_path, "in.csv", b"text\n" + b"x" * 500_000 + b"\n")
    assert asked(path, SAY) == {"line-2": "x" * 500_000}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"text,text\na,b\n", 'two columns have the name "text"'),
        (b"te\xffxt,n\na,b\n", "the header is not UTF-8"),
        (b'"text\n', "the header cannot be read"),
        (b"text,n\na,\0\n", "line 2: a NUL byte"),
    ],
)
def test_a_csv_that_cannot_be_used_is_one_error(tmp_path: Path, data: bytes, message: str) -> None:
    """Without a header no row can be read."""
    with pytest.raises(SourceError, match=message):
        read(write(tmp_path, "in.csv", data), SAY)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (None, r"no column prompt, messages or params; there are: a, b; .* --prompt '{{ a }}'"),
        (Template(system="x"), "no column prompt, messages or params"),
        (Template(prompt="{{ a }}", id="key"), 'no column "key"; there are: a, b'),
        (Template(images=("photo",)), 'no column "photo"; there are: a, b'),
    ],
)
def test_columns_that_no_row_can_do_without_are_one_error(
    tmp_path: Path, template: Template | None, message: str
) -> None:
    """A column that every row needs is reported once, not for each of a million rows."""
    with pytest.raises(SourceError, match=message):
        read(write(tmp_path, "in.csv", b"a,b\n1,2\n"), template)


def test_a_format_beats_the_suffix(tmp_path: Path) -> None:
    """A file of any format may be named .txt."""
    path = write(tmp_path, "in.txt", b"text\tn\na,b\t1\n")
    (line,) = read(path, SAY, "tsv")
    assert isinstance(line, Line)
    assert b'"a,b"' in line.body


def test_parquet_values_are_what_a_prompt_can_show(tmp_path: Path) -> None:
    """Real tables hold times, decimals, nested values and dictionaries."""
    path = parquet(
        tmp_path,
        id=[7, 8],
        at=pa.array([0, 1_600_000_000_123_456_789], pa.timestamp("ns", "UTC")),
        day=[date(2020, 1, 2)] * 2,
        price=[Decimal("1.10")] * 2,
        raw=[b"text", b"\xff"],
        nested=[{"x": [{"y": 2}]}] * 2,
        dict=pa.array(["p", "q"]).dictionary_encode(),
    )
    text = "{{ at }} {{ day }} {{ price }} {{ nested.x[0].y }} {{ dict }} {{ nested | tojson }}"
    assert asked(path, Template(prompt=text, id="id")) == {
        "7": '1970-01-01T00:00:00+00:00 2020-01-02 1.10 2 p {"x": [{"y": 2}]}',
        "8": '2020-09-13T12:26:40.123456+00:00 2020-01-02 1.10 2 q {"x": [{"y": 2}]}',
    }
    good, bad = read(path, Template(prompt="{{ raw }}"))
    assert isinstance(good, Line)
    assert isinstance(bad, Rejected)
    assert "bytes, not text" in str(bad.error)


def test_parquet_of_requests_needs_no_template(tmp_path: Path) -> None:
    """A table in the shape of Message Batches lines is read as such."""
    messages = [[{"role": "user", "content": "Hi"}]] * 2
    path = parquet(tmp_path, custom_id=["a", None], messages=messages, max_tokens=[5, None])
    found = jobs(path)
    assert (found["a"]["max_tokens"], found["line-2"]["max_tokens"]) == (5, 64)


def test_nulls_inside_a_parquet_value_are_not_given(tmp_path: Path) -> None:
    """A table gives all structs the same fields, so a text block had "source": null."""
    text = {"type": "text", "text": "q", "source": None}
    picture = {"type": "image", "text": None, "source": {"type": "url", "url": "https://e.com/y"}}
    empty = {"type": "text", "text": "r", "source": {"type": None, "url": None}}
    messages = [{"role": "user", "content": [text, picture, empty]}]
    path = parquet(tmp_path, custom_id=["a"], messages=[messages])
    (line,) = read(path)
    assert isinstance(line, Line)
    content = json.loads(line.body)["messages"][0]["content"]
    assert content == [
        {"type": "text", "text": "q"},
        {"type": "image", "source": {"type": "url", "url": "https://e.com/y"}},
        {"type": "text", "text": "r"},
    ]
    asked = [{"role": "user", "content": "Hi"}]
    params = [
        {"messages": asked, "temperature": None, "stop_sequences": None},
        {"messages": asked, "temperature": float("nan"), "stop_sequences": ["x"]},
    ]
    found = jobs(parquet(tmp_path, params=params))
    assert [set(job) for job in found.values()] == [
        {"messages", "model", "max_tokens"},
        {"messages", "model", "max_tokens", "stop_sequences"},
    ]


def test_parquet_is_read_in_flat_memory(tmp_path: Path) -> None:
    """Rows of 100 kB, all in one row group: only a page and a few rows are in memory."""
    path = tmp_path / "in.parquet"
    text = pa.array([f"{number:06d}" * 16_000 for number in range(1000)])
    pq.write_table(pa.table({"text": text}), path, use_dictionary=False, write_batch_size=10)
    del text
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    most = 0
    for _ in read_source(source_of(path, None, SAY), DEFAULTS):
        most = max(most, pa.total_allocated_bytes() - before)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most + peak < 40 << 20


def test_what_is_no_parquet_is_one_error(tmp_path: Path) -> None:
    """A file of another format that is named .parquet is an error."""
    with pytest.raises(SourceError, match=r"in\.parquet: cannot be read as Parquet"):
        read(write(tmp_path, "in.parquet", ROWS), SAY)


def test_a_checked_table_is_fed_without_its_bad_rows(tmp_path: Path) -> None:
    """The second reading skips the rows that the check rejected, in every format."""
    path = write(tmp_path, "in.csv", b"id,text\n1,a\n2,\n1,c\n4,d\n")
    source = source_of(path, None, Template(prompt="{{ text }}", id="id"))
    checked = check_source(source, DEFAULTS, ids=tmp_path / "ids.db")
    assert [str(each.error).split(";")[0] for each in checked.mistakes.shown] == [
        'line 3: prompt: column "text" is empty in this row',
        "line 4: custom_id: '1' was used on line 2 already",
    ]
    assert [line.custom_id for line in read_checked(checked, DEFAULTS)] == ["1", "4"]
