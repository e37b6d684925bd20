"""Builds the body of a 2xx answer from its chunks: JSON, or the Message of a stream. Pure."""

from __future__ import annotations

from typing import Final

import msgspec

from nightmill.records.result import Usage
from nightmill_worker.messages.accumulate import Accumulator
from nightmill_worker.messages.limits import AnswerLimits
from nightmill_worker.messages.message import tokens_in
from nightmill_worker.messages.outcome import NOT_JSON, PARTIAL_BYTES, AnswerError
from nightmill_worker.messages.repair import BOM
from nightmill_worker.messages.sse import Decoder
from nightmill_worker.messages.text import beginning

STREAM_TYPE: Final = "text/event-stream"
STREAM_BEGINS: Final = (b"event:", b"data:", b"id:", b"retry:", b":")
BEGIN_BYTES: Final = 64
"""Bytes after which it is decided what a body is. Six are enough when no blanks come first."""


class _Object(msgspec.Struct):
    """Any JSON object: all its fields are skipped."""


_require_object: Final = msgspec.json.Decoder(_Object).decode


class BodyBuilder:
    """Takes the chunks of one answer and returns its body.

    What the body is decides, not only its content-type: gateways name a stream text/plain, and some
    answer a request for a stream with JSON.
    """

    def __init__(self, limits: AnswerLimits, content_type: str = "") -> None:
        """Start before the first byte. Take the limits and the answer's content-type."""
        self._limits = limits
        self._named_stream = content_type.strip().lower().startswith(STREAM_TYPE)
        self._size = 0
        self._decided = False
        self._first = b""  # of a JSON body, or all bytes until it is decided what it is
        self._rest = bytearray()  # of a JSON body, after its first bytes
        self._decoder: Decoder | None = None  # of a stream
        self._accumulator = Accumulator(limits.blocks)
        self._events = 0

    @property
    def done(self) -> bool:
        """Whether no later chunk can change the body."""
        return self._accumulator.done

    @property
    def _is_text(self) -> bool:
        """Whether a body that is named a stream has no event: it is a page, or a proxy's text."""
        begins = self._first.lstrip()
        return not self._events and bool(begins) and not begins.startswith(STREAM_BEGINS)

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes, decompressed. Raises AnswerError."""
        self._size += len(chunk)
        if self._size > self._limits.response_bytes:
            self._first = self._first or chunk[:PARTIAL_BYTES]
            raise too_large(self._limits)
        if not self._decided:
            self._first += chunk
            self._decide(ended=False)
        elif self._decoder is not None:
            self._add(self._decoder, chunk)
        else:
            self._rest += chunk

    def body(self) -> bytes:
        """Return the body after the last chunk, once. Raises AnswerError."""
        self._decide(ended=True)
        if self._decoder is None:
            return self._received()
        if not self._accumulator.done:
            self._finish(self._decoder)
        if self._is_text:
            return self._first
        return self._accumulator.body()

    def rescued(self) -> bytes | None:
        """Return the body of an answer that broke off, when it is whole all the same."""
        try:
            self._decide(ended=True)
            if self._decoder is not None:
                return self._accumulator.body() if self._accumulator.complete else None
            body = self._received()
            _require_object(body)
        except (*NOT_JSON, AnswerError):
            return None
        return body

    def usage(self) -> Usage:
        """Return the tokens that a stream has reported so far: they are paid for."""
        return tokens_in(self._accumulator.usage()) if self._events else Usage()

    def partial(self) -> str:
        """Return the beginning of what was received: texts of a stream, else the body."""
        if self._decoder is not None and not self._is_text:
            return self._accumulator.partial()
        return beginning(self._first + self._rest[:PARTIAL_BYTES], PARTIAL_BYTES)

    def _decide(self, *, ended: bool) -> None:
        """Decide what the body is, if enough of it has come or no more comes."""
        if self._decided:
            return
        begins = self._first.removeprefix(BOM).lstrip()
        if len(begins) < len(b"event:") and len(self._first) < BEGIN_BYTES and not ended:
            return
        self._decided = True
        is_json = begins.startswith(b"{")
        if begins.startswith(STREAM_BEGINS) or (self._named_stream and not is_json):
            self._decoder = Decoder(self._limits.event_bytes)
            self._add(self._decoder, self._first)

    def _received(self) -> bytes:
        return self._first + self._rest if self._rest else self._first

    def _add(self, decoder: Decoder, chunk: bytes) -> None:
        accumulator = self._accumulator
        events = decoder.feed(chunk)
        self._events += len(events)
        if self._events > self._limits.events:
            message = (
                f"the stream has more than {self._limits.events:,} events (NIGHTMILL_MAX_EVENTS)"
            )
            raise AnswerError("response_too_large", message)
        for event in events:
            accumulator.add(event)

    def _finish(self, decoder: Decoder) -> None:
        """Take the last event, whose blank line is missing. Half an event is ignored."""
        try:
            for event in decoder.finish():
                self._events += 1
                self._accumulator.add(event)
        except AnswerError:
            return  # the stream was cut inside the event


def too_large(limits: AnswerLimits) -> AnswerError:
    """Return the error of an answer with more bytes than allowed."""
    message = f"the answer has over {limits.response_bytes:,} bytes (NIGHTMILL_MAX_RESPONSE_BYTES)"
    return AnswerError("response_too_large", message)
