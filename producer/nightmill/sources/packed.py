"""Compressed files and archives: unpacked, or named with what to do when they cannot be read."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import sys
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, Final, cast

from nightmill.errors import ExtraMissingError, SourceError

BUFFER_BYTES: Final = 1 << 18
SUFFIXES: Final = {
    ".gz": b"\x1f\x8b",
    ".zst": b"\x28\xb5\x2f\xfd",
    ".bz2": b"BZh",
    ".xz": b"\xfd7zXZ\x00",
    ".lzma": b"\x5d\x00\x00",
    ".zip": b"PK\x03\x04",
}
"""Packed files that can be read: suffix -> first bytes."""

_UNPACK: Final = "unpack it and give the file"
_CSV: Final = "save its sheet as CSV (UTF-8) and give that"
_PARQUET: Final = "write it as Parquet and give that"
_NAMED: Final = {
    b"7z\xbc\xaf\x27\x1c": f"this is a 7z archive; {_UNPACK}",
    b"Rar!": f"this is a RAR archive; {_UNPACK}",
    b"PK\x05\x06": "this zip is empty",
    b"\x1f\x9d": f"this is packed with compress (.Z); {_UNPACK}",
    b"\x04\x22\x4d\x18": f"this is packed with lz4; {_UNPACK}",
    b"\xd0\xcf\x11\xe0": f"this is an old Office file, such as .xls; {_CSV}",
    b"PAR1": "this is Parquet; give --format parquet",
    b"ARROW1": f"this is an Arrow file; {_PARQUET}",
    b"FEA1": f"this is a Feather file; {_PARQUET}",
    b"ORC": f"this is an ORC file; {_PARQUET}",
    b"Obj\x01": f"this is an Avro file; {_PARQUET}",
    b"\x89HDF": f"this is an HDF5 file; {_PARQUET}",
    b"SQLite format 3\0": "this is a SQLite database; export the table: sqlite3 -header -csv",
    b"%PDF-": "this is a PDF; give its directory, with --document path",
}
"""First bytes of files that are no text -> what they are and what to do."""

_OFFICE: Final = {
    "xl/": f"this is an Excel workbook; {_CSV}",
    "word/": "this is a Word document; save it as text or PDF and give its directory",
    "ppt/": "this is a presentation; save it as PDF and give its directory",
    "content.xml": f"this is an OpenDocument file; {_CSV}",
}
_TAR: Final = b"ustar"
_TAR_AT: Final = 257
_ENCRYPTED: Final = 0x1
_LISTED: Final = 3

Damages = tuple[type[Exception], ...]


def packing_of(head: bytes, source: str) -> str:
    """Return the suffix of the packing of a file that begins with `head`; "" for none.

    Raises SourceError when its name promises another one.
    """
    kind = next((suffix for suffix, magic in SUFFIXES.items() if head.startswith(magic)), "")
    named = Path(source).suffix.lower()
    if named in SUFFIXES and kind != named:
        refuse_unreadable(head, source)
        raise SourceError(f"{source}: is named {named}, but its content is not {named}")
    return kind


def refuse_unreadable(head: bytes, source: str) -> None:
    """Raise SourceError for the first bytes of a file that is no text and has a name."""
    for start, what in _NAMED.items():
        if head.startswith(start):
            raise SourceError(f"{source}: {what}")
    if head[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        raise SourceError(f"{source}: this is a tar archive; {_UNPACK}")


def unpacked(stream: BinaryIO, kind: str, source: str) -> tuple[BinaryIO, Damages]:
    """Return a stream of the unpacked bytes, and the errors it raises for damaged ones.

    Raises SourceError, and ExtraMissingError for zstd.
    """
    if not kind:
        return stream, ()
    if kind == ".zip":
        return _member(stream, source)
    raw: object
    damages: Damages
    if kind == ".gz":
        raw, damages = gzip.GzipFile(fileobj=stream), (EOFError, zlib.error, gzip.BadGzipFile)
    elif kind == ".bz2":
        raw, damages = bz2.BZ2File(stream), (EOFError, OSError)
    elif kind in {".xz", ".lzma"}:
        raw = lzma.LZMAFile(stream)  # noqa: SIM115 - it is closed with `stream`
        damages = (EOFError, lzma.LZMAError)
    else:
        raw, damages = _zstd(stream)
    return io.BufferedReader(cast("io.RawIOBase", raw), BUFFER_BYTES), damages


def _zstd(stream: BinaryIO) -> tuple[object, Damages]:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd  # noqa: PLC0415 - new in 3.14
        else:
            from backports import zstd  # noqa: PLC0415 - optional extra
    except ModuleNotFoundError:
        raise ExtraMissingError("zstd needs a package: pip install 'nightmill[sources]'") from None
    return zstd.ZstdFile(stream), (EOFError, zstd.ZstdError)


def _member(stream: BinaryIO, source: str) -> tuple[BinaryIO, Damages]:
    """Return the one file of a zip."""
    if not stream.seekable():
        raise SourceError(f"{source}: a zip cannot be read from a stream; pipe it: unzip -p IN.zip")
    damages = (EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError)
    try:
        archive = zipfile.ZipFile(stream)
        member = _one(archive, source)
        return io.BufferedReader(cast("io.RawIOBase", archive.open(member)), BUFFER_BYTES), damages
    except damages as error:
        raise SourceError(f"{source}: the zip cannot be read: {error}; {_UNPACK}") from None


def _one(archive: zipfile.ZipFile, source: str) -> zipfile.ZipInfo:
    names = archive.namelist()
    for start, what in _OFFICE.items():
        if any(name.startswith(start) for name in names):
            raise SourceError(f"{source}: {what}")
    members = [member for member in archive.infolist() if _counts(member)]
    if len(members) != 1:
        some = [member.filename for member in members[:_LISTED]]
        listed = ", ".join([*some, *(["..."] if len(members) > len(some) else [])]) or "none"
        raise SourceError(
            f"{source}: this zip holds {len(members):,} files ({listed}), and one is read; "
            "unpack it and give a file, or the directory with --format files"
        )
    if members[0].flag_bits & _ENCRYPTED:
        raise SourceError(f"{source}: this zip is encrypted; unpack it with its password")
    return members[0]


def _counts(member: zipfile.ZipInfo) -> bool:
    """Return whether a member is a file of the user, not one that macOS adds."""
    path = Path(member.filename)
    return not member.is_dir() and path.parts[0] != "__MACOSX" and not path.name.startswith(".")


def inner_name(source: str) -> str:
    """Return the name of the one file of a local zip; "" when there is none."""
    try:
        with zipfile.ZipFile(source) as archive:
            return _one(archive, source).filename
    except (OSError, ValueError, zipfile.BadZipFile, SourceError):
        return ""
