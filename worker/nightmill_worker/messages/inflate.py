"""Decompression in bounded steps: a small body may inflate to gigabytes, one step at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Final

from nightmill_worker.messages.outcome import AnswerError

ACCEPTED: Final = "gzip, deflate"
"""The accept-encoding of every request."""
STEP: Final = 1 << 16
"""Bytes in and bytes out of one step."""
MAX_MEMBERS: Final = 1000
"""Members of one gzip body. Without a bound, empty members would cost CPU time for nothing."""
_GZIP: Final = 16 + zlib.MAX_WBITS
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZLIB_METHOD: Final = 8
"""The low half of the first byte of a zlib stream. A deflate body may come without that header."""


class Inflater:
    """Decompresses one body whose content-encoding is gzip or deflate."""

    def __init__(self, *, gzip: bool) -> None:
        """Start before the first byte."""
        self._gzip = gzip
        self._plain = False
        self._members = 0
        self._stream: zlib._Decompress | None = None
        self._held = b""  # the first byte of a member whose second byte has not come

    @classmethod
    def of(cls, encoding: str | None) -> Inflater | None:
        """Return an inflater for a content-encoding, None for a body that is not compressed."""
        if encoding is None:
            return None
        name = encoding.strip().lower()
        return cls(gzip=name != "deflate") if name in {"gzip", "x-gzip", "deflate"} else None

    def pieces(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the decompressed bytes of `chunk`, at most STEP at a time. Raises AnswerError."""
        try:
            for start in range(0, len(chunk), STEP):
                yield from self._take(chunk[start : start + STEP])
        except zlib.error as error:
            raise AnswerError("truncated_response", f"the compressed body: {error}") from None

    def finish(self) -> None:
        """Raise AnswerError when the body was cut."""
        if self._held or self._stream is not None:
            raise AnswerError("truncated_response", "the compressed body was cut")

    def _take(self, data: bytes) -> Iterator[bytes]:
        while data and not self._plain:
            if self._stream is None:
                data, self._held = self._held + data, b""
                if self._gzip and data == _GZIP_MAGIC[:1]:
                    self._held = data
                    return
                self._stream = self._member(data)
            if self._stream is None:
                self._plain = not self._members
                if not self._plain:
                    return  # padding after the last member
            else:
                yield from _inflated(self._stream, data)
                data = self._stream.unused_data
                if self._stream.eof:
                    self._stream = None
        if data:  # a proxy has decompressed the body and left the header
            yield data

    def _member(self, data: bytes) -> zlib._Decompress | None:
        """Return what decompresses the member that begins with `data`, None when none begins."""
        if not data.startswith(_GZIP_MAGIC) if self._gzip else self._members:
            return None
        self._members += 1
        if self._members > MAX_MEMBERS:
            message = f"the compressed body has more than {MAX_MEMBERS:,} members"
            raise AnswerError("response_too_large", message)
        if self._gzip:
            return zlib.decompressobj(_GZIP)
        headed = data[0] & 0x0F == _ZLIB_METHOD
        return zlib.decompressobj(zlib.MAX_WBITS if headed else -zlib.MAX_WBITS)


def _inflated(stream: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    while True:
        piece = stream.decompress(data, STEP)
        data = stream.unconsumed_tail
        if piece:
            yield piece
        if stream.eof or (not data and len(piece) < STEP):
            return
