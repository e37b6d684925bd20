"""Text as programs write it: delimiters, encodings, line ends, quotes that are not closed."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from nightmill.errors import InvalidParamsError, SourceError
from nightmill.sources import (
    Line,
    Rejected,
    Template,
    delimiter_named,
    encoding_named,
    read_source,
    source_of,
)
from tests.producer.sources.reading import DEFAULTS, SAY, asked, read, write

BOTH = Template(prompt="{{ id }}: {{ text }}")


def with_options(path: Path, **options: str) -> list[str]:
    """Return the bodies of a source that is read with these options."""
    source = msgspec.structs.replace(source_of(path, None, SAY), **options)
    return [
        str(line.error) if isinstance(line, Rejected) else line.body.decode()
        for line in read_source(source, DEFAULTS)
    ]


@pytest.mark.parametrize("sign", [";", "\t", "|", ","])
@pytest.mark.parametrize("name", ["in.csv", "in.tsv"])
def test_the_header_shows_the_delimiter(tmp_path: Path, name: str, sign: str) -> None:
    """A semicolon file had one column "id;text"."""
    data = f'id{sign}text\n1{sign}"a, b; c | d"\n2{sign}plain\n'.encode()
    lines = read(write(tmp_path, name, data), BOTH)
    assert all(isinstance(line, Line) for line in lines)
    assert b"1: a, b; c | d" in lines[0].body  # type: ignore[union-attr]
    usual = {"in.csv": ",", "in.tsv": "\t"}[name]
    note = f"the columns are separated by {sign!r}; --delimiter sets another character"
    notes = [line.warnings for line in lines]  # type: ignore[union-attr]
    assert notes == [() if sign == usual else (note,), ()]


def test_a_quoted_header_hides_no_delimiter(tmp_path: Path) -> None:
    """Signs inside quotes are part of a name."""
    path = write(tmp_path, "in.csv", b'"a;b;c",text\n1,x\n')
    assert asked(path, SAY) == {"line-2": "x"}


@pytest.mark.parametrize("first", ["sep=;", '"sep=;"', "SEP=;"])
def test_a_sep_line_names_the_delimiter(tmp_path: Path, first: str) -> None:
    """Excel writes it and does not count it as a column."""
    path = write(tmp_path, "in.csv", f"{first}\r\nid;text\r\n1;hello\r\n".encode())
    assert asked(path, BOTH) == {"line-3": "1: hello"}


def test_a_given_delimiter_wins(tmp_path: Path) -> None:
    """The header may show another one."""
    path = write(tmp_path, "in.csv", b"a,b~text\n1,2~hello\n")
    assert "hello" in with_options(path, delimiter="~")[0]


def test_a_delimiter_is_one_character() -> None:
    """`--delimiter tab` is easier to type than a tab."""
    assert [delimiter_named(name) for name in (None, ";", "tab", "\\t")] == [None, ";", "\t", "\t"]
    for bad in ("", ";;", '"', "\n"):
        with pytest.raises(InvalidParamsError, match=r"--delimiter: .* is not one character"):
            delimiter_named(bad)


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n", "\r\r\n"])
@pytest.mark.parametrize("name", ["in.csv", "in.jsonl"])
def test_any_line_ends_are_read(tmp_path: Path, name: str, end: str) -> None:
    """CR alone gave "new-line character seen in unquoted field"."""
    rows = {"in.csv": ["id,text", "1,a", "2,b"], "in.jsonl": ['{"text": "a"}', '{"text": "b"}']}
    path = write(tmp_path, name, "".join(row + end for row in rows[name]).encode())
    assert list(asked(path, SAY).values()) == ["a", "b"]


def test_a_cr_inside_a_quoted_cell_stays(tmp_path: Path) -> None:
    """It is no line end."""
    path = write(tmp_path, "in.csv", b'text,n\n"a\rb",1\n')
    assert asked(path, SAY) == {"line-2": "a\rb"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", ["in.csv", "in.jsonl"])
def test_unicode_encodings_are_recognised(tmp_path: Path, name: str, encoding: str) -> None:
    """Excel's "Unicode text" is UTF-16; it was refused as a binary file."""
    text = {"in.csv": "id,text\r\n1,café ☕\r\n", "in.jsonl": '{"text": "café ☕"}\r\n'}[name]
    path = write(tmp_path, name, text.encode(encoding))
    assert list(asked(path, SAY).values()) == ["café ☕"]


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "mac_roman", "cp437"])
@pytest.mark.parametrize("name", ["in.csv", "in.jsonl"])
def test_another_encoding_is_named_with_an_option(tmp_path: Path, name: str, encoding: str) -> None:
    """A guess could be wrong, and be paid for; the error names the option."""
    text = {"in.csv": "id,text\r\n1,café\r\n", "in.jsonl": '{"text": "café"}\r\n'}[name]
    path = write(tmp_path, name, text.encode(encoding))
    (bad,) = read(path, SAY)
    assert isinstance(bad, Rejected)
    assert "not UTF-8 (byte 0x" in str(bad.error)
    assert "--encoding" in str(bad.error)
    (body,) = with_options(path, encoding=encoding)
    assert "café" in body


def test_a_wrong_encoding_is_one_error(tmp_path: Path) -> None:
    """It names the option, and Python's name is checked before a file is read."""
    path = write(tmp_path, "in.csv", b"id,text\n1,\x81\n")
    with pytest.raises(SourceError, match=r"in\.csv: is not cp1252: .*; name its --encoding"):
        with_options(path, encoding="cp1252")
    assert encoding_named("Windows-1252") == "cp1252"
    for bad in ("none", "base64", ""):
        with pytest.raises(InvalidParamsError, match=r"--encoding: .* is no known encoding"):
            encoding_named(bad)


def test_the_texts_of_a_folder_have_encodings_too(tmp_path: Path) -> None:
    """A text with a byte order mark is read without it."""
    write(tmp_path, "in/a.txt", "é".encode("utf-8-sig"))
    write(tmp_path, "in/b.txt", "é".encode("utf-16"))
    assert asked(tmp_path / "in", SAY) == {"a.txt": "é", "b.txt": "é"}
    write(tmp_path, "old/a.txt", "é".encode("latin-1"))
    (bad,) = with_options(tmp_path / "old")
    assert "'a.txt' is not UTF-8 (byte 0xe9 at 0); name its --encoding" in bad
    assert "é" in with_options(tmp_path / "old", encoding="latin-1")[0]


@pytest.mark.parametrize(
    ("data", "bad", "prompts"),
    [
        (b'1,"hello\n2,world\n3,"bye"\n4,x\n', {2}, ["2: world", "3: bye", "4: x"]),
        (b'1,"hello\n2,world\n3,bye\n', {2}, ["2: world", "3: bye"]),
        (b'1,a\n2,"b\n3,""\n4,"d"\n', {3, 4}, ["1: a", "4: d"]),
    ],
)
def test_an_open_quote_takes_only_its_own_row(
    tmp_path: Path, data: bytes, bad: set[int], prompts: list[str]
) -> None:
    """The rows behind it were read as part of one bad row, and --skip-bad lost them all."""
    lines = read(write(tmp_path, "in.csv", b"id,text\n" + data), BOTH)
    assert {line.number for line in lines if isinstance(line, Rejected)} == bad
    (first, *_) = (line for line in lines if isinstance(line, Rejected))
    assert "a quote is opened in this row and not closed" in str(first.error)
    good = [line for line in lines if isinstance(line, Line)]
    assert len(good) == len(prompts)
    for line, prompt in zip(good, prompts, strict=True):
        assert f'"content":"{prompt}"'.encode() in line.body


def test_rows_inside_a_quoted_cell_are_a_warning(tmp_path: Path) -> None:
    """Two quotes that are both too many, such as inches, hide rows, and the CSV is valid."""
    data = b'id,text\n1,"5 inch\n2,world\n3,7"\n4,x\n'
    first, second = read(write(tmp_path, "in.csv", data), BOTH)
    assert isinstance(first, Line)
    assert "a cell in quotes spans lines that look like rows" in first.warnings[0]
    assert isinstance(second, Line)
    assert second.warnings == ()
    letter = b'id,text\n1,"Dear Ann,\nthanks, and\nbye, Bob"\n'
    (line,) = read(write(tmp_path, "in.csv", letter), BOTH)
    assert isinstance(line, Line)
    assert line.warnings == ()


def test_columns_without_a_name_have_a_number(tmp_path: Path) -> None:
    """A spreadsheet writes its empty columns too: two of them were "two columns of one name"."""
    path = write(tmp_path, "in.csv", b"id,text,,\n1,a,,\n2,b,note,\n")
    assert asked(path, SAY) == {"line-2": "a", "line-3": "b"}
    template = Template(prompt="{{ row['column 3'] or 'none' }}")
    assert asked(path, template) == {"line-2": "none", "line-3": "note"}


def test_columns_with_almost_one_name_are_a_warning(tmp_path: Path) -> None:
    """`Text` and `text` are two columns, and a template uses one of them."""
    (line,) = read(write(tmp_path, "in.csv", b"Text,text\na,b\n"), SAY)
    assert isinstance(line, Line)
    assert line.warnings == ('columns "Text" and "text" have almost the same name',)
