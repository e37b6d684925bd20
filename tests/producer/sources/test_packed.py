"""Compressed files are unpacked; what cannot be read is named with what to do."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nightmill.errors import SourceError
from nightmill.sources import plain_name, source_of
from tests.producer.sources.reading import ROWS, SAY, asked, read, write


def zipped(**members: bytes) -> bytes:
    """Return a zip with these members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return out.getvalue()


def tarred(data: bytes) -> bytes:
    """Return a tar with one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("in.jsonl")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


PACKERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    ".zip": lambda data: zipped(rows=data),
}


@pytest.mark.parametrize("suffix", PACKERS)
def test_every_packing_is_read(tmp_path: Path, suffix: str) -> None:
    """.bz2, .xz and .zip were refused as "a NUL byte: this is a binary file"."""
    packed = PACKERS[suffix](ROWS)
    path = write(tmp_path, f"in.jsonl{suffix}", packed)
    assert asked(path) == {"line-1": "a", "line-2": "b"}
    assert asked(write(tmp_path, "named.jsonl", packed)) == {"line-1": "a", "line-2": "b"}
    assert plain_name(str(path)) == "in"
    table = PACKERS[suffix](b"id,text\n1,x\n")
    path = write(tmp_path, f"in.csv{suffix}", table)
    assert asked(path, SAY) == {"line-2": "x"}


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_damaged_file_is_one_error(tmp_path: Path, suffix: str) -> None:
    """A download may have been cut."""
    packed = PACKERS[suffix](b"".join(b'{"prompt": "%d"}\n' % n for n in range(9999)))
    path = write(tmp_path, f"in.jsonl{suffix}", packed[: len(packed) // 2])
    with pytest.raises(SourceError, match=r"in\.jsonl\.\w+: the (compressed file|zip) "):
        read(path)


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_wrong_suffix_is_one_error(tmp_path: Path, suffix: str) -> None:
    """The file may be no archive at all."""
    path = write(tmp_path, f"in.jsonl{suffix}", ROWS)
    with pytest.raises(SourceError, match=f"is named {suffix}, but its content is not {suffix}"):
        read(path)


def test_the_file_in_a_zip_shows_the_format(tmp_path: Path) -> None:
    """A zip is called data.zip, and its table data.csv. macOS adds files of its own."""
    data = zipped(**{"data.csv": b"id,text\n1,x\n", "__MACOSX__._data.csv": b"mac", "d__": b""})
    path = write(tmp_path, "data.zip", data)
    assert source_of(path).format == "csv"
    assert asked(path, SAY) == {"line-2": "x"}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "a.zip",
            zipped(**{"a.csv": b"x", "b.csv": b"y"}),
            "holds 2 files (a.csv, b.csv), and one",
        ),
        ("a.zip", zipped(), "this zip is empty"),
        ("a.xlsx", zipped(**{"xl__workbook.xml": b"", "a": b""}), "an Excel workbook; save its"),
        ("a.csv", zipped(**{"xl__workbook.xml": b"", "a": b""}), "an Excel workbook; save its"),
        ("a.docx", zipped(**{"word__document.xml": b""}), "a Word document"),
        ("a.ods", zipped(**{"content.xml": b""}), "an OpenDocument file"),
        ("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1", "an old Office file, such as .xls; save its sheet"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive; unpack it"),
        ("a.rar", b"Rar!\x1a\7", "a RAR archive; unpack it"),
        ("a.tar", tarred(ROWS), "a tar archive; unpack it"),
        ("a.tar.gz", gzip.compress(tarred(ROWS)), "a tar archive; unpack it"),
        ("a.csv", b"PAR1\0\0", "this is Parquet; give --format parquet"),
        ("a.arrow", b"ARROW1\0\0", "an Arrow file; write it as Parquet"),
        ("a.db", b"SQLite format 3\0", "a SQLite database; export the table"),
        ("a.pdf", b"%PDF-1.7\n", "this is a PDF"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    """The error named a NUL byte, which says nothing about what to do."""
    with pytest.raises(SourceError) as caught:
        read(write(tmp_path, name, data), SAY)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert message in str(caught.value)


def test_an_encrypted_zip_is_named(tmp_path: Path) -> None:
    """The standard library cannot write one, so the flag is set in both headers."""
    data = bytearray(zipped(rows=ROWS))
    for start, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(start) + at] |= 1
    with pytest.raises(SourceError, match="this zip is encrypted; unpack it with its password"):
        read(write(tmp_path, "a.zip", bytes(data)))


def test_a_zip_of_a_parquet_file_is_named(tmp_path: Path) -> None:
    """Parquet is compressed inside; around it nothing is unpacked."""
    out = io.BytesIO()
    pq.write_table(pa.table({"text": ["a"]}), out)
    with pytest.raises(SourceError, match="this is Parquet"):
        read(write(tmp_path, "a.parquet.gz", gzip.compress(out.getvalue())), SAY, "jsonl")
