"""Open an input. Every failure is a SourceError whose message is one line."""

from __future__ import annotations

import io
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from nightmill.errors import ExtraMissingError, SourceError
from nightmill.sources.packed import packing_of, refuse_unreadable, unpacked
from nightmill.sources.recoded import as_utf8

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

STDIN: Final = "-"
BUFFER_BYTES: Final = 1 << 18
HEAD_BYTES: Final = 512
"""Bytes that show what a file is."""

GONE: Final = (404, 410)
"""HTTP statuses that say the file does not exist."""

_SECRET: Final = re.compile(r"(?<=://)[^/@]*@|\?.*")
_QUERY: Final = re.compile(r"(?<=://)[^/@\s]*@|(?<=\w)\?[^\s'\"]*=[^\s'\"]*")
"""The same in a text that quotes a URL."""


def is_url(source: str) -> bool:
    """Return whether `source` is a URL, which fsspec opens: s3://bucket/in.csv, for example."""
    return "://" in source


def is_stream(source: str) -> bool:
    """Return whether `source` can be read only once: "-" (standard input), a pipe, a terminal."""
    path = Path(source)
    return source == STDIN or (path.exists() and not path.is_file() and not path.is_dir())


def without_secrets(source: str) -> str:
    """Return `source` for a message: a URL without its credentials and its query."""
    return _SECRET.sub("", source) if is_url(source) else source


@contextmanager
def open_source(source: str, encoding: str | None = None) -> Iterator[BinaryIO]:
    """Open a path, a URL or "-" (standard input) for reading text, unpacked and as UTF-8.

    `encoding` is that of the text; see `as_utf8`. Raises SourceError when it is missing, a
    directory, unreadable, empty, damaged, or no text.
    """
    name = without_secrets(source)
    with open_as_it_is(source) as stream:
        packing = packing_of(_head(stream), name)
        plain, damages = unpacked(stream, packing, name)
        try:
            refuse_unreadable(_head(plain), name)
            yield as_utf8(plain, encoding, name)
        except damages as error:
            raise SourceError(f"{name}: the compressed file is damaged: {error}") from None


def _head(stream: BinaryIO) -> bytes:
    return cast("io.BufferedReader", stream).peek(HEAD_BYTES)


@contextmanager
def open_as_it_is(source: str) -> Iterator[BinaryIO]:
    """Open as `open_source` does, but without unpacking."""
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
        # Not sys.stdin: a thread that is blocked in it makes the interpreter crash at its exit.
        which = sys.stdin.fileno() if source == STDIN else source
        return open(which, "rb", buffering=BUFFER_BYTES, closefd=source != STDIN)
    except FileNotFoundError:
        raise SourceError(f"{source}: no such file") from None
    except IsADirectoryError:
        raise SourceError(f"{source}: is a directory, not a file") from None
    except (OSError, ValueError) as error:
        raise SourceError(f"{source}: cannot be read: {_reason(error)}") from None


@contextmanager
def _remote(url: str) -> Iterator[BinaryIO]:
    files, path = file_system(url)
    try:
        stream = files.open(path, "rb")
    except Exception as error:  # noqa: BLE001 - every file system has its own errors
        raise unreadable(url, error) from None
    with stream, io.BufferedReader(_Remote(stream, url), BUFFER_BYTES) as buffered:
        yield buffered


class _Remote(io.RawIOBase):
    """A file of a file system; each of its errors, which are of many kinds, is a SourceError."""

    def __init__(self, stream: Any, url: str) -> None:  # noqa: ANN401 - fsspec has no types
        self._stream = stream
        self._url = url

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        """Return whether it can be read from its end; a server may not report the length."""
        try:
            position = self._stream.tell()
            self._stream.seek(0, os.SEEK_END)
            self._stream.seek(position)
        except Exception:  # noqa: BLE001 - every file system has its own errors
            return False
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        data = self._done(self._stream.read, len(view))
        view[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._done(self._stream.seek, offset, whence))

    def tell(self) -> int:
        return int(self._done(self._stream.tell))

    def _done(self, work: Callable[..., Any], *args: int) -> Any:  # noqa: ANN401
        try:
            return work(*args)
        except Exception as error:  # noqa: BLE001 - every file system has its own errors
            raise unreadable(self._url, error) from None


def file_system(url: str) -> tuple[Any, str]:
    """Return the fsspec file system of `url`, and its path in that file system.

    Raises ExtraMissingError that names the package to install, and SourceError.
    """
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - optional extra
    except ModuleNotFoundError:
        raise ExtraMissingError(
            f"{without_secrets(url)}: pip install 'nightmill[sources]'"
        ) from None
    try:
        return cast("tuple[Any, str]", url_to_fs(url))
    except Exception as error:  # noqa: BLE001 - its text names the package, or the fault
        raise SourceError(f"{without_secrets(url)}: {_reason(error)}") from None


def unreadable(source: str, error: Exception) -> SourceError:
    """Return a file system's error as a SourceError of one line."""
    cause = error.__cause__  # fsspec raises FileNotFoundError for all that a web server answers
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception):
        return unreadable(source, cause)
    if isinstance(error, FileNotFoundError) or getattr(error, "status", 0) in GONE:
        return SourceError(f"{without_secrets(source)}: no such file")
    return SourceError(f"{without_secrets(source)}: cannot be read: {_reason(error)}")


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return _QUERY.sub("", " ".join(text.split())) or type(error).__name__
