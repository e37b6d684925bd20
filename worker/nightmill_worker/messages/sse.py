"""Server-sent events from chunks of bytes, which may be cut anywhere. Pure."""

from __future__ import annotations

import sys
from typing import Final

import msgspec

from nightmill_worker.messages.outcome import AnswerError

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

    def __init__(self, max_event_bytes: int = sys.maxsize) -> None:
        """Start at the first byte of a stream. An event has at most `max_event_bytes`."""
        self._limit = max_event_bytes
        self._line = bytearray()  # an incomplete line
        self._first_line = True
        self._after_cr = False
        self._name = ""
        self._data: list[bytes] = []
        self._size = 0  # of _data after its first line

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that `chunk` completes, in order; lines end in LF, CRLF or CR.

        Raises AnswerError for an event that is too large.
        """
        if self._after_cr and chunk:
            chunk = chunk.removeprefix(b"\n")  # the second half of a CRLF that was cut in two
            self._after_cr = False
        if not chunk:
            return []
        lines = chunk.splitlines()
        rest = b"" if chunk.endswith(LINE_ENDS) else lines.pop()
        self._after_cr = chunk.endswith(b"\r")
        if lines and self._line:
            lines[0] = bytes(self._line + lines[0])
            self._line.clear()
        if rest:
            self._line += rest
            self._require(len(self._line))
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
            if self._data:  # a first line is bounded as a line
                self._size += len(value) + 1
                self._require(self._size)
            self._data.append(value)
        elif field == b"event":
            self._name = value.decode(errors="replace")
        return None  # a comment (no field name), `id`, `retry` or an unknown field

    def _dispatch(self) -> Event | None:
        """Return the current event and start the next one. Without data there is no event."""
        name, data = self._name or "message", self._data
        self._name, self._data, self._size = "", [], 0
        return Event(name=name, data=b"\n".join(data)) if data else None

    def _require(self, size: int) -> None:
        if size > self._limit:
            message = f"one event has more than {self._limit:,} bytes (NIGHTMILL_MAX_EVENT_BYTES)"
            raise AnswerError("response_too_large", message)
