"""Text in any encoding and with any line ends -> UTF-8 with LF, CRLF or as it was."""

from __future__ import annotations

import codecs
import io
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from nightmill.errors import InvalidParamsError, SourceError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CHUNK_BYTES: Final = 1 << 16
_UTF8: Final = frozenset({"utf-8", "utf-8-sig", "ascii"})
_MARKS: Final = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, which begins alike
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order marks -> encodings."""
_SAMPLE: Final = 512
_MOSTLY: Final = 0.7
"""Share of zero bytes in every second place by which UTF-16 without a mark is known."""


def encoding_named(name: str | None) -> str | None:
    """Return Python's name of an encoding. Raises InvalidParamsError for one that is not known."""
    if name is None:
        return None
    try:
        found = codecs.lookup(name)
        "a".encode(found.name)  # a codec such as base64 is no encoding of text
    except (LookupError, ValueError):
        problem = f"{name!r:.60} is no known encoding; for example: cp1252, latin-1, utf-16"
        raise InvalidParamsError("--encoding", problem) from None
    return found.name


def as_utf8(stream: BinaryIO, encoding: str | None, source: str) -> BinaryIO:
    """Return the text of `stream` as UTF-8. None for `encoding`: UTF-16 is recognised, else UTF-8.

    Lines that end with CR alone end with LF then. Bytes of UTF-8 text that are no UTF-8 stay as
    they are: their row is bad. Raises SourceError, also while it is read.
    """
    head = cast("io.BufferedReader", stream).peek(_SAMPLE)
    name = encoding or encoding_of(head)
    if name not in _UTF8:
        decoder = codecs.getincrementaldecoder(name)("strict")
        stream = _buffered(_Recoded(stream, decoder, name, source))
        head = cast("io.BufferedReader", stream).peek(_SAMPLE)
    if _old_line_ends(head):
        lenient = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        universal = io.IncrementalNewlineDecoder(lenient, translate=True)
        stream = _buffered(_Recoded(stream, universal, "utf-8", source))
    return stream


def encoding_of(head: bytes) -> str:
    """Return the encoding of a text that begins with `head`: UTF-16, UTF-32 or else UTF-8."""
    for mark, name in _MARKS.items():
        if head.startswith(mark):
            return name
    for place, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        zeros, others = head[place:_SAMPLE:2], head[1 - place : _SAMPLE : 2]
        if others and b"\0" not in others and zeros.count(0) >= _MOSTLY * len(zeros) > 0:
            return name
    return "utf-8"


def _old_line_ends(head: bytes) -> bool:
    """Return whether the first line ends with CR alone, as old Macintosh programs wrote it."""
    line = head.partition(b"\n")[0].removesuffix(b"\r")
    before, mark, _ = line.partition(b"\r")
    return bool(mark) and before.count(b'"') % 2 == 0  # a cell in quotes may hold a CR


def _buffered(raw: io.RawIOBase) -> BinaryIO:
    return io.BufferedReader(raw, CHUNK_BYTES)


class _Recoded(io.RawIOBase):
    """Decodes a stream and encodes it as UTF-8."""

    def __init__(
        self,
        stream: BinaryIO,
        decoder: codecs.IncrementalDecoder | io.IncrementalNewlineDecoder,
        encoding: str,
        source: str,
    ) -> None:
        self._stream = stream
        self._decoder = decoder
        self._encoding = encoding
        self._source = source
        self._ready = b""
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer)
        while not self._ready and not self._ended:
            self._ready = self._next()
        count = min(len(view), len(self._ready))
        view[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _next(self) -> bytes:
        chunk = cast("io.BufferedReader", self._stream).read1(CHUNK_BYTES)
        self._ended = not chunk
        try:
            text = self._decoder.decode(chunk, final=self._ended)
            return text.encode(errors="surrogateescape")
        except UnicodeError as error:
            problem = f"{self._source}: is not {self._encoding}: {error}; name its --encoding"
            raise SourceError(problem) from None
