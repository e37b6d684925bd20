"""The standard streams of commands and workers, made safe: a stream that fails ends no work.

Standard error is for progress and logs, so what it does not take is dropped. Standard output has
what the user asked for, so its failure is an OutputError, once; all later output is dropped.
Characters that a stream cannot encode are written as escapes.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
from typing import TYPE_CHECKING, Final

from nightmill.errors import NightmillError

if TYPE_CHECKING:
    from typing import TextIO

    from _typeshed import ReadableBuffer

ESCAPED: Final = "nightmill.escaped"
"""Name of the error handler below."""
PLAIN: Final = {"·": "-", "…": "..."}
"""What is written for punctuation where a stream has only ASCII."""
BEYOND_BMP: Final = 0x10000


class OutputError(NightmillError):
    """Standard output takes no more."""

    def __init__(self, error: OSError) -> None:
        """Take why. `reader_gone`: a reader such as `head` has all that it wants."""
        super().__init__(f"standard output: {error.strerror}")
        self.reader_gone = error.errno == errno.EPIPE


def guard_streams() -> None:
    """Make the standard streams of this process safe. Streams that a test has replaced stay."""
    _open_missing()
    codecs.register_error(ESCAPED, _escaped)
    if sys.stdout is sys.__stdout__:
        sys.stdout = _guarded(sys.stdout, 1, fatal=True)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _guarded(sys.stderr, 2, fatal=False)


def drop_output() -> None:
    """Take and drop what standard output still gets: a flush at the end must not wait for a pipe.

    A stream that a test has replaced stays, and so does a terminal: its cursor must be shown again.
    """
    sink = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(sink, _Sink) and not sys.stdout.isatty():
        sink.failed = True


def _open_missing() -> None:
    """Open the standard descriptors that are closed: else the next file that is opened gets one.

    What is written to a closed standard output fails, as it does for other programs.
    """
    for fd, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, flags)  # gets the lowest free number, which is `fd`


def _guarded(stream: TextIO | None, fd: int, *, fatal: bool) -> io.TextIOWrapper:
    # With PYTHONUNBUFFERED, Python's own streams are not line-buffered but written through.
    written_through = bool(getattr(stream, "write_through", False))
    return io.TextIOWrapper(
        io.BufferedWriter(_Sink(fd, fatal=fatal)),
        encoding=stream.encoding if stream else "utf-8",
        errors=ESCAPED,
        line_buffering=written_through or bool(getattr(stream, "line_buffering", True)),
    )


class _Sink(io.FileIO):
    """A standard stream; after its first failure it takes and drops everything."""

    def __init__(self, fd: int, *, fatal: bool) -> None:
        super().__init__(fd, "w", closefd=False)
        self._fatal = fatal
        self.failed = False

    def write(self, data: ReadableBuffer, /) -> int:
        """Write as much as the stream takes. Raises OutputError for the first failure."""
        size = memoryview(data).nbytes
        if self.failed:
            return size
        try:
            while (written := super().write(data)) is None:  # another program made it non-blocking
                select.select([], [self], [])
        except OSError as error:
            self.failed = True
            if self._fatal:
                raise OutputError(error) from None
            return size
        return written


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Return what is written for characters that a stream cannot encode, as JSON escapes them."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    found = error.object[error.start : error.end]
    return "".join(PLAIN.get(each) or escape(each) for each in found), error.end


def escape(character: str) -> str:
    """Return a character as an escape of JSON: two of them for one beyond the first 65,536."""
    code = ord(character)
    if code < BEYOND_BMP:
        return f"\\u{code:04x}"
    code -= BEYOND_BMP
    return f"\\u{0xD800 | code >> 10:04x}\\u{0xDC00 | code & 0x3FF:04x}"
