"""Tables, directories, URLs and compressed files: each becomes jobs, or one clear line."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightmill.errors import SourceError
from nightmill.params import Defaults
from nightmill.sources import (
    Format,
    Line,
    Rejected,
    Template,
    check_source,
    plain_name,
    read_checked,
    read_source,
    source_of,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DEFAULTS: Final = Defaults(model="m", max_tokens=64, max_payload_bytes=1 << 20)
SAY: Final = Template(prompt="{{ text }}")
ROWS: Final = b'{"prompt": "a"}\n{"prompt": "b"}\n'


def read(
    where: str | Path, template: Template | None = None, given: Format | None = None
) -> list[Line | Rejected]:
    """Read a source to its end."""
    return list(read_source(source_of(where, given, template), DEFAULTS))


def jobs(where: str | Path, template: Template | None = None) -> dict[str, Any]:
    """Read a source of good rows; return what each id asks."""
    found = read(where, template)
    assert all(isinstance(line, Line) for line in found), found
    return {line.custom_id: json.loads(line.body) for line in found if isinstance(line, Line)}


def asked(where: str | Path, template: Template | None = None) -> dict[str, object]:
    """Return the content of each job's one message."""
    return {name: job["messages"][0]["content"] for name, job in jobs(where, template).items()}


def write(folder: Path, name: str, data: bytes) -> Path:
    """Write a file below `folder`."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def parquet(folder: Path, **columns: object) -> Path:
    """Write a Parquet file."""
    path = folder / "in.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_a_csv_row_has_the_line_it_begins_on(tmp_path: Path) -> None:
    """An editor shows lines, and a cell may have several."""
    data = b'\xef\xbb\xbftext, n\r\n"one\r\ntwo",1\r\n\r\nthree,2\r\n"say ""hi""",3'
    path = write(tmp_path, "in.csv", data)
    assert asked(path, Template(prompt="{{ text }}/{{ n }}")) == {
        "line-2": "one\r\ntwo/1",
        "line-5": "three/2",
        "line-6": 'say "hi"/3',
    }


def test_a_csv_of_requests_needs_no_template(tmp_path: Path) -> None:
    """A table knows only text: numbers are read as such, an empty cell is not given."""
    data = b"custom_id,prompt,max_tokens,temperature,system\n7,12,5,,Be brief\n,Yo,,0.5,\n"
    found = jobs(write(tmp_path, "in.csv", data))
    assert found["7"]["messages"][0]["content"] == "12"
    assert (found["7"]["max_tokens"], found["7"]["system"]) == (5, "Be brief")
    assert "temperature" not in found["7"]
    assert (found["line-3"]["max_tokens"], found["line-3"]["temperature"]) == (64, 0.5)
    assert "system" not in found["line-3"]


@pytest.mark.parametrize(
    ("row", "line", "said"),
    [
        (b"only one", 2, "1 cells in this row; the header has 2 columns"),
        (b"a,b,c", 2, "3 cells in this row"),
        (b"a,\xff", 2, "n: not UTF-8 (byte 0xff at 0)"),
        (b'"a"b,1', 2, "a quote inside a cell is written twice"),
        (b'"never closed,1\nand on', 2, "unexpected end of data"),
        (b"x" * (4 << 20) + b",1", 2, "the line is 4,194,307 bytes"),
    ],
)
def test_a_bad_csv_row_names_its_line(tmp_path: Path, row: bytes, line: int, said: str) -> None:
    """Reading goes on: with --skip-bad the rest of the table still counts."""
    good = b"fine,2\n" if b"never" not in row else b""
    first, *rest = read(write(tmp_path, "in.csv", b"text,n\n" + row + b"\n" + good), SAY)
    assert isinstance(first, Rejected)
    assert str(first.error).startswith(f"line {line}: ")
    assert said in str(first.error)
    assert [type(each) for each in rest] == ([Line] if good else [])


def test_a_large_cell_is_a_prompt_like_any_other(tmp_path: Path) -> None:
    """The csv module's own limit is 128 kB."""
    path = write(tmp_path, "in.csv", b"text\n" + b"x" * 500_000 + b"\n")
    assert asked(path, SAY) == {"line-2": "x" * 500_000}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"text,text\na,b\n", 'two columns are called "text"'),
        (b"te\xffxt,n\na,b\n", "the header is not UTF-8"),
        (b'"text\n', "the header cannot be read"),
        (b"text,n\na,\0\n", "line 2: a NUL byte"),
    ],
)
def test_a_csv_that_cannot_be_used_is_one_error(tmp_path: Path, data: bytes, said: str) -> None:
    """Without a header no row means anything."""
    with pytest.raises(SourceError, match=said):
        read(write(tmp_path, "in.csv", data), SAY)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (None, r"no column prompt, messages or params; there are: a, b; .* --prompt '{{ a }}'"),
        (Template(system="x"), "no column prompt, messages or params"),
        (Template(prompt="{{ a }}", id="key"), 'no column "key"; there are: a, b'),
        (Template(images=("photo",)), 'no column "photo"; there are: a, b'),
    ],
)
def test_columns_that_no_row_can_do_without_are_one_error(
    tmp_path: Path, template: Template | None, said: str
) -> None:
    """A million lines that all say so help nobody."""
    with pytest.raises(SourceError, match=said):
        read(write(tmp_path, "in.csv", b"a,b\n1,2\n"), template)


def test_a_format_beats_the_suffix(tmp_path: Path) -> None:
    """Files are called .txt, whatever is in them."""
    path = write(tmp_path, "in.txt", b"text\tn\na,b\t1\n")
    (line,) = read(path, SAY, "tsv")
    assert isinstance(line, Line)
    assert b'"a,b"' in line.body


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstd.compress)])
def test_compressed_files_are_read_as_they_are(
    tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]
) -> None:
    """Appended files too, whatever they are called; a half one is never taken for the whole."""
    path = write(tmp_path, f"in.jsonl{suffix}", pack(ROWS) + pack(ROWS))
    assert list(asked(path).values()) == ["a", "b", "a", "b"]
    assert list(asked(write(tmp_path, "nameless", pack(ROWS)))) == ["line-1", "line-2"]
    half = write(tmp_path, f"half.csv{suffix}", pack(os.urandom(1 << 16).hex().encode())[:-100])
    with pytest.raises(SourceError, match="damaged"):
        read(half, SAY)
    wrong = write(tmp_path, f"wrong.jsonl{suffix}", ROWS)
    with pytest.raises(SourceError, match=f"is named {suffix}, but does not hold that"):
        read(wrong)


def test_parquet_values_are_what_a_prompt_can_show(tmp_path: Path) -> None:
    """Times, decimals, nested values and dictionaries are in every real table."""
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
    assert "bytes and no text" in str(bad.error)


def test_parquet_of_requests_needs_no_template(tmp_path: Path) -> None:
    """What another program wrote as Message Batches lines stays that."""
    messages = [[{"role": "user", "content": "Hi"}]] * 2
    path = parquet(tmp_path, custom_id=["a", None], messages=messages, max_tokens=[5, None])
    found = jobs(path)
    assert (found["a"]["max_tokens"], found["line-2"]["max_tokens"]) == (5, 64)


def test_parquet_is_read_in_flat_memory(tmp_path: Path) -> None:
    """Rows of 100 kB, all in one row group: what is in memory is a page and a few rows."""
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
    """Renaming a file does not convert it."""
    with pytest.raises(SourceError, match=r"in\.parquet: no Parquet that can be read"):
        read(write(tmp_path, "in.parquet", ROWS), SAY)


def test_a_directory_is_a_row_a_file(tmp_path: Path) -> None:
    """In the order of the paths, without what is hidden or no file; a path names its job."""
    for name in ("b.txt", "a/z.md", "a/.hidden", ".git/x", "a.txt"):
        write(tmp_path, name, f"\ufeff{name}!".encode())
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to("gone")
    text = "{{ path }} {{ name }} {{ stem }} {{ suffix }} {{ size }} {{ text }}"
    assert asked(tmp_path, Template(prompt=text)) == {
        "a/z.md": "a/z.md z.md z .md 10 a/z.md!",
        "a.txt": "a.txt a.txt a .txt 9 a.txt!",
        "b.txt": "b.txt b.txt b .txt 9 b.txt!",
    }


def test_a_file_that_is_no_text_is_a_bad_row(tmp_path: Path) -> None:
    """It is only read where a template looks at its text."""
    write(tmp_path, "a.bin", b"ab\xff")
    write(tmp_path, "b.txt", b"x" * (4 << 20))
    write(tmp_path, "c.txt", b"fine")
    first, second, third = read(tmp_path, SAY)
    assert isinstance(first, Rejected)
    assert "text: 'a.bin' is not UTF-8 (byte 0xff at 2)" in str(first.error)
    assert isinstance(second, Rejected)
    assert "'b.txt' is 4,194,304 bytes" in str(second.error)
    assert isinstance(third, Line)
    assert list(asked(tmp_path, Template(prompt="{{ name }}"))) == ["a.bin", "b.txt", "c.txt"]


def test_a_directory_needs_to_be_told_what_for(tmp_path: Path) -> None:
    """Nobody knows what is to be asked of a file."""
    write(tmp_path, "a.txt", b"a")
    for template in (None, Template(set={"max_tokens": 5})):
        with pytest.raises(SourceError, match="is a directory; say what becomes of its files"):
            read(tmp_path, template)


def test_urls_are_read_through_fsspec() -> None:
    """Buckets are where large inputs are; relative paths stay in them."""
    files = fsspec.filesystem("memory")
    files.pipe("/tests/in.csv.gz", gzip.compress(b"photo\nx/1.png\n"))
    files.pipe("/tests/docs/b.txt", b"bee")
    files.pipe("/tests/docs/.a", b"hidden")
    (content,) = asked("memory://tests/in.csv.gz", Template(images=("photo",))).values()
    assert content == [
        {
            "type": "image",
            "source": {
                "type": "base64",
                "media_type": "image/png",
                "data": {"$file": "memory://tests/x/1.png"},
            },
        }
    ]
    assert asked("memory://tests/docs/", SAY) == {"b.txt": "bee"}
    with pytest.raises(SourceError, match="memory://tests/none: no such file"):
        read("memory://tests/none")
    with pytest.raises(SourceError, match="nowhere://x: Protocol not known"):
        read("nowhere://x")


def test_a_url_is_told_without_its_secrets() -> None:
    """Errors are pasted into chats; signed URLs are as good as keys."""
    with pytest.raises(SourceError) as caught:
        read("nowhere://user:password@host/in.jsonl?signature=secret")
    assert "nowhere://host/in.jsonl:" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "name"),
    [
        ("in.jsonl", "in"),
        ("a.b.csv.zst", "a.b"),
        ("s3://bucket/deep/in.parquet?versionId=1", "in"),
        ("s3://bucket/deep/", "deep"),
    ],
)
def test_a_batch_is_named_after_its_file(location: str, name: str) -> None:
    """Without the suffixes that only say how it is written."""
    assert plain_name(location) == name


def test_a_checked_table_is_fed_without_its_bad_rows(tmp_path: Path) -> None:
    """The second reading goes by what the first one found, in every format."""
    path = write(tmp_path, "in.csv", b"id,text\n1,a\n2,\n1,c\n4,d\n")
    source = source_of(path, None, Template(prompt="{{ text }}", id="id"))
    checked = check_source(source, DEFAULTS, ids=tmp_path / "ids.db")
    assert [str(each.error).split(";")[0] for each in checked.shown] == [
        "line 3: prompt: given '' (string)",
        "line 4: custom_id: '1' was used on line 2 already",
    ]
    assert [line.custom_id for line in read_checked(checked, DEFAULTS)] == ["1", "4"]


@pytest.mark.parametrize(
    ("package", "name", "extra"),
    [
        ("pyarrow", "in.parquet", "parquet"),
        ("fsspec.core", "memory://in.jsonl", "sources"),
        ("jinja2", "in.csv", "sources"),
        (zstd.__name__, "in.jsonl.zst", "sources"),
    ],
)
def test_a_missing_package_is_named_with_its_command(
    tmp_path: Path, package: str, name: str, extra: str
) -> None:
    """The base install has none of them."""
    write(tmp_path, "in.jsonl.zst", zstd.compress(ROWS))
    write(tmp_path, "in.csv", b"a\n1\n")
    write(tmp_path, "in.parquet", b"PAR1")
    script = (
        f"import sys; sys.modules[{package!r}] = None\n"
        "from nightmill.cli import main\n"
        f"sys.argv = ['nightmill', 'enqueue', {name!r}, '--dry-run']\n"
        f"sys.argv += ['--prompt', '{{{{ a }}}}'] if {package!r} == 'jinja2' else []\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert f"pip install 'nightmill[{extra}]'" in done.stderr
    assert done.stderr.count("\n") == 1
