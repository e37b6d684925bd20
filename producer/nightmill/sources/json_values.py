"""JSON objects that are not one a line: an array of them, or objects over several lines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO, Final

CHUNK_BYTES: Final = 1 << 16
_BETWEEN: Final = b" \t\r\n,\xef\xbb\xbf"  # with a byte order mark
_OUTSIDE: Final = re.compile(rb'["{}\[\]]')
_INSIDE: Final = re.compile(rb'["\\]')
_FIRST_OF_ARRAY: Final = re.compile(rb"\s*\[\s*(\{|\]|$)")


def is_spread(head: bytes) -> bool:
    """Return whether a file that begins with `head` is an array, or has objects over many lines."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    line = text.partition(b"\n")[0].rstrip()
    return bool(_FIRST_OF_ARRAY.match(text)) or (
        text.startswith(b"{") and line.endswith((b"{", b"[", b",", b":")) and len(line) < len(text)
    )


def read_values(stream: BinaryIO, cap: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield (line it begins on, value, size in bytes) of each value; one over `cap` bytes is cut.

    The outermost array, if there is one, is left out. Only one value is in memory. What cannot be
    a value, such as a word between two of them, is yielded for an error.
    """
    scan = _Scan(cap)
    while chunk := stream.read(CHUNK_BYTES):
        yield from scan.values(chunk)
    yield from scan.rest()


class _Scan:
    """Finds the ends of values, a chunk at a time."""

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._depth = 0
        self._array = 0
        """1 inside the outermost array: the depth at which its elements begin."""
        self._in_string = False
        self._skip = 0
        """1 after a backslash at the end of a chunk: the next character is escaped."""
        self._line = 1
        self._last = 0
        self._parts: list[bytes] = []
        self._size = 0
        self._began = 1

    def values(self, chunk: bytes) -> Iterator[tuple[int, bytes, int]]:
        """Yield the values that end in `chunk`."""
        start, place = 0, self._skip
        self._skip = 0
        while match := (_INSIDE if self._in_string else _OUTSIDE).search(chunk, place):
            place = match.end()
            sign = match[0]
            if self._in_string:
                if sign == b"\\":
                    place += 1
                    self._skip = place - len(chunk) if place > len(chunk) else 0
                self._in_string = sign != b'"'
            elif sign == b'"':
                self._in_string = True
            elif sign in b"{[":
                if sign == b"[" and self._depth == 0 and not self._array and not self._size:
                    self._array = self._depth = 1
                    self._take(chunk[start : place - 1])
                    start = place
                    continue
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == self._array:
                    self._take(chunk[start:place])
                    start = place
                    yield from self.rest()
                elif self._depth < self._array:
                    self._take(chunk[start : place - 1])
                    start, self._array, self._depth = place, 0, 0
                    yield from self.rest()
        self._take(chunk[start:])

    def rest(self) -> Iterator[tuple[int, bytes, int]]:
        """Yield what was taken, unless there is nothing."""
        if self._size:
            self._last = max(self._last + 1, self._began)
            yield self._last, b"".join(self._parts), self._size
        self._parts, self._size = [], 0

    def _take(self, piece: bytes) -> None:
        """Add a piece of the value; what stands between two values is left out."""
        if not self._size:
            rest = piece.lstrip(_BETWEEN)
            self._line += piece.count(b"\n", 0, len(piece) - len(rest))
            self._began, piece = self._line, rest
        self._line += piece.count(b"\n")
        if self._size <= self._cap:
            self._parts.append(piece)
        self._size += len(piece)
