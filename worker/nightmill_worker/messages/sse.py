"""Server-sent events from chunks of bytes, which may be cut anywhere. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

BOM: Final = b"\xef\xbb\xbf"
LINE_ENDS: Final = (b"\n", b"\r")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event of a stream."""

    name: str
    """The `event:` line, "message" when there is none."""
    data: bytes
    """The `data:` lines, joined by line feeds."""


class Decoder:
    """An incremental decoder of one stream. Its work is linear in the bytes fed."""

    def __init__(self) -> None:
        """Start at the first byte of a stream."""
        self._line: list[bytes] = []  # the pieces of an incomplete line
        self._first_line = True
        self._after_cr = False
        self._name = ""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that `chunk` completes, in order; lines end in LF, CRLF or CR."""
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")  # the second half of a CRLF that was cut in two
            self._after_cr = False
        if not chunk:
            return []
        lines = chunk.splitlines()
        rest = b"" if chunk.endswith(LINE_ENDS) else lines.pop()
        self._after_cr = chunk.endswith(b"\r")
        if lines:
            lines[0] = b"".join((*self._line, lines[0]))
            self._line.clear()
        if rest:
            self._line.append(rest)
        return [event for line in lines if (event := self._take(line))]

    def finish(self) -> list[Event]:
        """Return the event that the end of the stream completes: its blank line is missing."""
        return [event for event in (*self.feed(b"\n"), self._dispatch()) if event]

    def _take(self, line: bytes) -> Event | None:
        """Take one whole line. A blank line completes an event."""
        if self._first_line:
            line = line.removeprefix(BOM)
            self._first_line = False
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode(errors="replace")
        return None  # a comment (no field name), `id`, `retry` or an unknown field

    def _dispatch(self) -> Event | None:
        """Return the current event and start the next one. Without data there is no event."""
        name, data = self._name or "message", self._data
        self._name, self._data = "", []
        return Event(name=name, data=b"\n".join(data)) if data else None
