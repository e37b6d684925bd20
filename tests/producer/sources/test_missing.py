"""A missing value makes a bad row, however its source writes it, unless the template handles it."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightmill.errors import SourceError
from nightmill.sources import Line, Rejected, Row, Template, items_of, line_of
from tests.producer.sources.reading import DEFAULTS, SAY, asked, jobs, read, write

MISSING: Final = {
    "null": None,
    "NaN": float("nan"),
    "NaT": pd.NaT,
    "NA": pd.NA,
}
OTHER_NANS: Final = [
    np.float32("nan"),
    np.datetime64("NaT"),
    Decimal("NaN"),
    Decimal("sNaN"),
]


def rendered(text: str, value: object, *, table: bool = False) -> str:
    """Return the prompt of a row, or its error."""
    row = Row(number=1, columns={"text": value}, table=table)
    line = line_of(row, DEFAULTS, Template(prompt=text))
    if isinstance(line, Rejected):
        return str(line.error)
    content: str = json.loads(line.body)["messages"][0]["content"]
    return content


def parquet(folder: Path, column: pa.Array) -> Path:
    """Write a Parquet file with this column `text`."""
    path = folder / "in.parquet"
    pq.write_table(pa.table({"text": column}), path)
    return path


@pytest.mark.parametrize(
    ("name", "data", "word"),
    [
        ("in.csv", b"id,text\na,\n", "empty"),
        ("in.csv", b'id,text\na,"  "\n', "empty"),
        ("in.tsv", b"id\ttext\na\t\n", "empty"),
        ("in.jsonl", b'{"text": null}\n', "null"),
        ("in.jsonl", b'{"text": NaN}\n', "NaN"),
    ],
)
def test_a_text_sources_missing_value_is_a_bad_row(
    tmp_path: Path, name: str, data: bytes, word: str
) -> None:
    """Before, "Summarise: " and "Summarise: nan" were jobs, and paid for."""
    (line,) = read(write(tmp_path, name, data), Template(prompt="Summarise: {{ text }}"))
    assert isinstance(line, Rejected)
    assert f'column "text" is {word} in this row' in str(line.error)
    assert "{{ text or '' }}" in str(line.error)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([None], pa.string()),
        pa.array([""], pa.string()),
        pa.array([float("nan")], pa.float64()),
        pa.array([float("nan")], pa.float32()),
        pa.array([None], pa.timestamp("ns")),
        pa.array([None], pa.date32()),
        pa.array([None], pa.int64()),
        pa.array([None], pa.list_(pa.string())),
    ],
)
def test_a_parquet_files_missing_value_is_a_bad_row(tmp_path: Path, column: pa.Array) -> None:
    """A column of numbers has NaN where pandas found no value."""
    (line,) = read(parquet(tmp_path, column), Template(prompt="Summarise: {{ text }}"))
    assert isinstance(line, Rejected)
    assert 'column "text" is ' in str(line.error)


@pytest.mark.parametrize("value", [*MISSING.values(), *OTHER_NANS], ids=repr)
def test_a_python_rows_missing_value_is_a_bad_row(value: object) -> None:
    """Rows of a DataFrame hold NaN, NaT and NA: "Summarise: NaT" was a job."""
    (line,) = list(items_of([{"text": value}], DEFAULTS, SAY))  # type: ignore[arg-type]
    assert isinstance(line, Rejected)
    assert 'column "text" is N' in str(line.error).replace("null", "N")


@pytest.mark.parametrize("word", MISSING)
def test_the_error_says_which_missing_value_it_is(word: str) -> None:
    """A user searches for what the table shows."""
    assert f'column "text" is {word} in this row' in rendered("{{ text }}", MISSING[word])


@pytest.mark.parametrize("value", [*MISSING.values(), ""], ids=repr)
@pytest.mark.parametrize(
    "text",
    [
        "{{ text or 'none' }}",
        "{{ row.text or 'none' }}",
        "{{ row['text'] or 'none' }}",
        "{{ text | default('none') }}",
        "{{ text | d('none', true) }}",
        "{{ text | trim or 'none' }}",
        "{{ text | upper | default('none') }}",
        "{% if text %}{{ text }}{% else %}none{% endif %}",
        "{% if not text %}none{% endif %}",
        "{{ text if text is not none else 'none' }}",
        "{{ text if text is defined else 'none' }}",
        "{% if text == none or text == '' %}none{% endif %}",
    ],
)
def test_a_template_may_handle_a_missing_value(text: str, value: object) -> None:
    """NaN is true in Python: {{ text or 'none' }} wrote "nan"."""
    assert rendered(text, value, table=True) == "none"


@pytest.mark.parametrize("value", [*MISSING.values(), " "], ids=repr)
@pytest.mark.parametrize(
    "text",
    [
        "S: {{ text | upper }}",
        "S: {{ text | trim | replace('a', 'b') }}",
        "S: {{ 'a' ~ text }}",
        "S: {{ ['a', text] | join(' ') }}",
        "S: {{ '%s' | format(text) }}",
        "S: {{ '{}'.format(text) }}",
        "S: {{ text + 1 }}",
        "S: {% for part in text %}{{ part }}{% endfor %}",
        "S: {{ text.part }}",
        "S: {{ [text] | map('upper') | join }}",
    ],
)
def test_a_missing_value_comes_through_no_filter(text: str, value: object) -> None:
    """`trim` of a null gave "None", and `upper` gave "NONE"."""
    assert 'column "text" is ' in rendered(text, value, table=True)


def test_a_missing_value_inside_a_nested_column_is_named() -> None:
    """A struct of a table has nulls too."""
    problem = rendered("{{ text.score }}", {"score": float("nan")})
    assert 'column "text.score" is NaN in this row' in problem
    assert rendered("{{ text.score or 'none' }}", {"score": float("nan")}) == "none"
    assert rendered("{{ text | tojson }}", {"score": float("nan")}) == '{"score": null}'


def test_an_empty_text_of_json_is_a_value() -> None:
    """Only a table cannot tell an empty text from a missing one. It is a warning."""
    assert rendered("S: {{ text }}.", "") == "S: ."
    for text, warned in (
        ("{{ text }}!", True),
        ("{{ text or '' }}!", False),
        ("{% if text %}{{ text }}{% endif %}!", False),
    ):
        line = line_of(Row(number=1, columns={"text": ""}), DEFAULTS, Template(prompt=text))
        assert isinstance(line, Line)
        warning = 'an empty "text" is written into the prompt'
        assert line.warnings == ((warning,) if warned else ())


@pytest.mark.parametrize("mark", ["nan", "NULL", "None", "\\N"])
def test_a_text_that_may_be_a_missing_value_is_a_warning(tmp_path: Path, mark: str) -> None:
    """Databases and pandas write these; they may be meant as well, as a name may be "None"."""
    path = write(tmp_path, "in.csv", f"id,text\n1,{mark}\n2,x\n".encode())
    first, second = read(path, SAY)
    assert isinstance(first, Line)
    assert first.warnings == (f'the text "{mark}" of column "text" is written into the prompt',)
    assert isinstance(second, Line)
    assert second.warnings == ()


def test_a_system_prompt_and_an_id_may_not_be_missing(tmp_path: Path) -> None:
    """The system prompt said "Answer in nan."."""
    path = write(tmp_path, "in.csv", b"id,text,language\n1,a,\n,b,fr\n3,c,de\n")
    template = Template(prompt="{{ text }}", system="Answer in {{ language }}.", id="id")
    first, second, third = read(path, template)
    assert isinstance(first, Rejected)
    assert 'system: column "language" is empty' in str(first.error)
    assert isinstance(second, Rejected)
    assert 'column "id" is empty in this row' in str(second.error)
    assert isinstance(third, Line)


def test_a_missing_value_among_request_fields_is_left_out() -> None:
    """A DataFrame has NaN where a row has no temperature."""
    rows = [
        {"prompt": "a", "temperature": float("nan"), "system": pd.NA},
        {"messages": [{"role": "user", "content": "b"}], "temperature": float("nan")},
    ]
    for line in items_of(rows, DEFAULTS):  # type: ignore[union-attr]
        assert isinstance(line, Line)
        assert b"temperature" not in line.body
        assert b"system" not in line.body


def test_an_empty_prompt_of_a_table_is_named(tmp_path: Path) -> None:
    """The message was "no request in this line", which names another cause."""
    _, line = read(write(tmp_path, "in.csv", b"custom_id,prompt\na,x\nb,\n"))
    assert isinstance(line, Rejected)
    assert "prompt: is empty in this row" in str(line.error)


def test_an_integer_id_that_was_read_as_a_number_is_the_integer(tmp_path: Path) -> None:
    """A column of integers with a hole is a column of floats: its ids were "1.0"."""
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"id": pa.array([1.0, 2.5]), "text": ["a", "b"]}), path)
    assert list(asked(path, Template(prompt="{{ text }}", id="id"))) == ["1", "2.5"]
    row = Row(number=1, columns={"id": np.float64(7), "text": "x"})
    line = line_of(row, DEFAULTS, Template(prompt="{{ text }}", id="id"))
    assert isinstance(line, Line)
    assert line.custom_id == "7"
    pq.write_table(pa.table({"custom_id": pa.array([3.0]), "prompt": ["a"]}), path)
    assert list(jobs(path)) == ["3"]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([2**60, 0], pa.timestamp("us")),
        pa.array([2**60, 0], pa.timestamp("ms", "UTC")),
        pa.array([2**31 - 1, 0], pa.date32()),
        pa.array([86_400_000 * 10**8, 0], pa.date64()),
        pa.array([2**62, 1], pa.duration("s")),
        pa.array([[2**31 - 1], [0]], pa.list_(pa.date32())),
        pa.array([{"a": 2**31 - 1}, {"a": 0}], pa.struct([("a", pa.date32())])),
    ],
)
def test_a_date_out_of_range_is_a_bad_row(tmp_path: Path, column: pa.Array) -> None:
    """Python has the years 1 to 9999: the command ended with a traceback."""
    first, second = read(parquet(tmp_path, column), SAY)
    assert isinstance(first, Rejected)
    assert str(first.error) == (
        "line 1: text: out of range; dates and times have the years 1 to 9999"
    )
    assert isinstance(second, Line)


def test_a_time_zone_that_is_not_known_is_a_bad_row(tmp_path: Path) -> None:
    """The message said that the file is no Parquet."""
    (line,) = read(parquet(tmp_path, pa.array([0], pa.timestamp("us", "Mars/Base"))), SAY)
    assert isinstance(line, Rejected)
    assert "text: cannot be read: " in str(line.error)


def test_an_infinite_number_is_not_written(tmp_path: Path) -> None:
    """A number out of the range of its type: "Price: inf" was a job. Large integers are written."""
    (line,) = read(parquet(tmp_path, pa.array([float("inf")])), SAY)
    assert isinstance(line, Rejected)
    assert "the value is an infinite number" in str(line.error)
    assert "infinite" in rendered("{{ text }}", float("-inf"))
    path = parquet(tmp_path, pa.array([2**64 - 1], pa.uint64()))
    assert asked(path, SAY) == {"line-1": "18446744073709551615"}


def test_parquet_columns_of_one_name_are_one_error(tmp_path: Path) -> None:
    """The second column was taken, and the first one was not mentioned."""
    path = tmp_path / "in.parquet"
    columns = [pa.array(["a"]), pa.array(["b"])]
    pq.write_table(pa.Table.from_arrays(columns, names=["text", "text"]), path)
    with pytest.raises(SourceError, match=r'in\.parquet: two columns have the name "text"'):
        read(path, SAY)
    pq.write_table(pa.Table.from_arrays(columns, names=["text", "Text "]), path)
    (line,) = read(path, SAY)
    assert isinstance(line, Line)
    assert line.warnings == ('columns "text" and "Text " have almost the same name',)
