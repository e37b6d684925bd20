"""Opening an input: every way it can go wrong ends in a SourceError of one clear line."""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, cast

from nightmill.errors import ExtraMissingError, SourceError

STDIN: Final = "-"
BUFFER_BYTES: Final = 1 << 18
SUFFIXES: Final = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}
"""Compressed files: the suffix they have, and how they begin."""

_SECRET: Final = re.compile(r"(?<=://)[^/@]*@|\?.*")


def is_url(source: str) -> bool:
    """Tell whether fsspec is to open `source`: s3://bucket/in.csv, say."""
    return "://" in source


def is_stream(source: str) -> bool:
    """Tell whether `source` can be read only once: "-" (standard input), a pipe, a terminal."""
    path = Path(source)
    return source == STDIN or (path.exists() and not path.is_file() and not path.is_dir())


def shown(source: str) -> str:
    """Return `source` as it may be told: a URL without its credentials."""
    return _SECRET.sub("", source) if is_url(source) else source


@contextmanager
def open_source(source: str) -> Iterator[BinaryIO]:
    """Open a path, a URL or "-" (standard input) for reading bytes, gzip and zstd unpacked.

    Raises SourceError when it is missing, a directory, unreadable, empty or damaged.
    """
    with open_as_it_is(source) as stream:
        kind = _compressed(stream, source)
        unpacked, damages = _unpacked(stream, kind)
        try:
            yield unpacked
        except damages as error:
            raise SourceError(f"{shown(source)}: the compressed file is damaged: {error}") from None


@contextmanager
def open_as_it_is(source: str) -> Iterator[BinaryIO]:
    """Open like `open_source`, but give a compressed file as it is."""
    if is_url(source):
        with _remote(source) as stream:
            yield stream
        return
    with _local(source) as stream:
        status = os.fstat(stream.fileno())
        if stat.S_ISREG(status.st_mode) and not status.st_size:
            raise SourceError(f"{source}: the file is empty")
        yield stream


def _local(source: str) -> BinaryIO:
    if source == STDIN and sys.stdin is None:
        raise SourceError(f"{source}: standard input is closed")
    try:
        # Not sys.stdin: a thread that reads it for ever would crash the interpreter's exit.
        which = sys.stdin.fileno() if source == STDIN else source
        return open(which, "rb", buffering=BUFFER_BYTES, closefd=source != STDIN)
    except FileNotFoundError:
        raise SourceError(f"{source}: no such file") from None
    except IsADirectoryError:
        raise SourceError(f"{source}: is a directory, and not one file") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{source}: cannot be read: {_reason(error)}") from None


@contextmanager
def _remote(url: str) -> Iterator[BinaryIO]:
    files, path = file_system(url)
    try:
        stream = files.open(path, "rb")
    except Exception as error:  # noqa: BLE001 - every file system has errors of its own
        raise unreadable(url, error) from None
    with stream, io.BufferedReader(stream, BUFFER_BYTES) as buffered:
        yield buffered


def file_system(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of `url`, and what it calls the path there.

    Raises ExtraMissingError that names the package to install, and SourceError.
    """
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - optional extra
    except ModuleNotFoundError:
        raise ExtraMissingError(f"{shown(url)}: pip install 'nightmill[sources]'") from None
    try:
        return cast("tuple[Any, str]", url_to_fs(url))
    except Exception as error:  # noqa: BLE001 - it says which package to install, or what is wrong
        raise SourceError(f"{shown(url)}: {_reason(error)}") from None


def unreadable(source: str, error: Exception) -> SourceError:
    """Return the one clear line for a file system's error."""
    if isinstance(error, FileNotFoundError):
        return SourceError(f"{shown(source)}: no such file")
    return SourceError(f"{shown(source)}: cannot be read: {_reason(error)}")


def _reason(error: Exception) -> str:
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(told.split()) or type(error).__name__


def _compressed(stream: BinaryIO, source: str) -> str:
    """Return the suffix of what `stream` is compressed with, "" for nothing that is known."""
    head = cast("io.BufferedReader", stream).peek(4)
    kind = next((suffix for suffix, magic in SUFFIXES.items() if head.startswith(magic)), "")
    named = Path(shown(source)).suffix.lower()
    if named in SUFFIXES and kind != named:
        raise SourceError(f"{shown(source)}: is named {named}, but does not hold that")
    return kind


def _unpacked(stream: BinaryIO, kind: str) -> tuple[BinaryIO, tuple[type[Exception], ...]]:
    """Return what gives the plain bytes, and what it raises for damaged ones."""
    if not kind:
        return stream, ()
    raw: io.RawIOBase
    if kind == ".gz":
        raw = cast("io.RawIOBase", gzip.GzipFile(fileobj=stream))
        return io.BufferedReader(raw, BUFFER_BYTES), (EOFError, zlib.error, gzip.BadGzipFile)
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd  # noqa: PLC0415 - new in 3.14
        else:
            from backports import zstd  # noqa: PLC0415 - optional extra
    except ModuleNotFoundError:
        raise ExtraMissingError("zstd needs a package: pip install 'nightmill[sources]'") from None
    raw = cast("io.RawIOBase", zstd.ZstdFile(stream))
    return io.BufferedReader(raw, BUFFER_BYTES), (EOFError, zstd.ZstdError)
