"""Builds one Message from its stream of events. Pure, in linear time.

The rule for a delta: a string is appended to the block's field of that name, any other value
replaces the field. It covers text, thinking, signatures and delta types that do not exist yet.
Two kinds differ: the pieces of a tool's input are JSON, and citations come one at a time.

A stream may lack what its Message does not need: message_start, message_stop after a stop_reason,
usage. Only a text that was cut is an error.
"""

from __future__ import annotations

import sys
from typing import ClassVar, Final

import msgspec

from nightmill_worker.messages.blocks import (
    IMPLIED,
    MAX_FIELDS,
    NULL,
    QUOTE,
    Block,
    Fields,
    decode_fields,
    has_many_fields,
)
from nightmill_worker.messages.error_body import as_error, error_in, words_of
from nightmill_worker.messages.outcome import NOT_JSON, PARTIAL_BYTES, AnswerError, BreakKind
from nightmill_worker.messages.repair import repaired
from nightmill_worker.messages.sse import Event

# An event without a name is called "message": the `type` in its data decides. content_block_stop is
# not needed: message_stop ends all blocks.
STRICT: Final = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "message_delta",
        "message_stop",
    }
)
"""Events whose data must be a JSON object. Of other events, data that is not one is ignored."""
IGNORED: Final = frozenset({"ping", "content_block_stop"})
CUT_SHORT: Final = (b'"max_tokens"', b'"model_context_window_exceeded"')
EMPTY: Final[Fields] = {
    "type": msgspec.Raw(b'"message"'),
    "role": msgspec.Raw(b'"assistant"'),
    "model": msgspec.Raw(b'""'),
    "stop_reason": NULL,
    "stop_sequence": NULL,
}
"""The Message of a stream without message_start."""


class _Data(msgspec.Struct):
    """The fields of all known events. `type` says which of them an event has."""

    type: str = ""
    index: int = 0
    message: Fields = {}
    content_block: Fields = {}
    delta: Fields = {}
    usage: Fields = {}
    error: msgspec.Raw = NULL


class _Text(msgspec.Struct, tag="text_delta", forbid_unknown_fields=True):
    value: msgspec.Raw = msgspec.field(name="text")
    field: ClassVar[str] = "text"


class _Thinking(msgspec.Struct, tag="thinking_delta", forbid_unknown_fields=True):
    value: msgspec.Raw = msgspec.field(name="thinking")
    field: ClassVar[str] = "thinking"


class _Input(msgspec.Struct, tag="input_json_delta", forbid_unknown_fields=True):
    value: msgspec.Raw = msgspec.field(name="partial_json")
    field: ClassVar[str] = "input"


class _Delta(msgspec.Struct):
    """A content_block_delta of the three frequent kinds, which are decoded faster."""

    index: int
    delta: _Text | _Thinking | _Input


class _LooseData(msgspec.Struct):
    """The same fields with values of any type."""

    type: msgspec.Raw = NULL
    index: msgspec.Raw = NULL
    message: msgspec.Raw = NULL
    content_block: msgspec.Raw = NULL
    delta: msgspec.Raw = NULL
    usage: msgspec.Raw = NULL
    error: msgspec.Raw = NULL


_decode: Final = msgspec.json.Decoder(_Data).decode
_decode_delta: Final = msgspec.json.Decoder(_Delta).decode
_decode_loose: Final = msgspec.json.Decoder(_LooseData).decode
_decode_index: Final = msgspec.json.Decoder(int, strict=False).decode


class Accumulator:
    """Takes the events of one stream and returns the Message that they make.

    Unknown events are ignored. `done` is true after message_stop or an error event. Later events
    do not change the Message.
    """

    def __init__(self, max_blocks: int = sys.maxsize) -> None:
        """Start before message_start. A Message has at most `max_blocks` content blocks."""
        self.done = False
        self._max_blocks = max_blocks
        self._start: Fields | None = None
        self._end: Fields = {}
        self._usage: Fields = {}
        self._blocks: dict[int, Block] = {}
        self._fields = 0
        self._marked = False  # whether texts hold marks for halves of surrogate pairs
        self._error: bytes | None = None
        self._stray = b""  # the last event of no known kind

    @property
    def complete(self) -> bool:
        """Whether the Message is whole: message_stop, a stop_reason or an error came."""
        return self.done or self._stopped

    @property
    def _stopped(self) -> bool:
        return bytes(self._end.get("stop_reason", NULL)) != b"null"

    def add(self, event: Event) -> None:
        """Take the next event. Raises AnswerError for data that breaks the contract."""
        if self.done or event.name in IGNORED:
            return
        if has_many_fields(event.data):
            raise _too_many_fields()
        if event.name == "content_block_delta" and self._append(event.data):
            return
        if event.name == "error":
            self._error, self.done = as_error(event.data), True
            return
        try:
            self._take(event, _decode(event.data))
        except NOT_JSON:
            self._add_odd(event)

    def body(self) -> bytes:
        """Return the Message as JSON, or an error event's data as it came. Call it once.

        Raises AnswerError when the stream ended too early or a tool's input is not JSON.
        """
        if self._error is not None and not self._stopped:
            return self._error
        if not self.complete or (self._start is None and not self._blocks):
            if error_in(self._stray) is not None:
                return self._stray
            last = f"; its last event: {words_of(self._stray)}" if self._stray else ""
            raise AnswerError("truncated_response", f"the stream ended without message_stop{last}")
        message = {**(self._start or EMPTY), **self._end}
        message.setdefault("type", EMPTY["type"])
        usage = {**_object(message.get("usage", NULL)), **self._usage}
        if self._blocks and "output_tokens" not in self._usage:
            usage.pop("output_tokens", None)  # that of message_start is preliminary
        message["usage"] = msgspec.Raw(msgspec.json.encode(usage))
        if self._blocks or not bytes(message.get("content", NULL)).startswith(b"["):
            message["content"] = msgspec.Raw(self._content(bytes(message.get("stop_reason", NULL))))
        return msgspec.json.encode(message)

    def usage(self) -> bytes:
        """Return the `usage` that was reported so far, as JSON: of a broken stream, too."""
        begun = _object((self._start or EMPTY).get("usage", NULL))
        return msgspec.json.encode({**begun, **self._usage})

    def partial(self) -> str:
        """Return the beginning of the texts received so far, at most PARTIAL_BYTES characters."""
        found = ""
        for index in sorted(self._blocks):
            text = self._blocks[index].partial()
            found += f"\n\n{text}" if found and text else text
            if len(found) >= PARTIAL_BYTES:
                break
        return found[:PARTIAL_BYTES]

    def _content(self, stop_reason: bytes) -> bytes:
        try:
            indices = sorted(self._blocks)
            blocks = [self._blocks.pop(index).finish(marked=self._marked) for index in indices]
        except NOT_JSON as error:
            kind: BreakKind = "input_cut" if stop_reason in CUT_SHORT else "invalid_response"
            raise AnswerError(kind, f"a tool's input is not a JSON object: {error}") from None
        return msgspec.json.encode(blocks)

    def _append(self, data: bytes) -> bool:
        """Take a delta of a frequent kind. Return False for any other, which changes nothing."""
        try:
            found = _decode_delta(data)
        except NOT_JSON:
            return False
        block, text = self._blocks.get(found.index), bytes(found.delta.value)
        if block is None or not text.startswith(QUOTE):
            return False
        if type(found.delta) is _Input:
            block.append_input(text)
        else:
            block.append(found.delta.field, text)
        return True

    def _add_odd(self, event: Event) -> None:
        """Take an event whose data is not strictly what it should be."""
        if event.name == "message_stop":
            self.done = True
            return
        data = repaired(event.data, mark_halves=True)
        try:
            loose = _strict(_decode_loose(data))
            self._marked = True
            self._take(Event(name=event.name, data=data), loose)
        except NOT_JSON as error:
            if event.name in STRICT:
                message = f"bad {event.name} event: {error}"
                raise AnswerError("invalid_response", message) from None
            if event.data.strip() != b"[DONE]":
                self._stray = event.data

    def _take(self, event: Event, data: _Data) -> None:
        """Take one event by its type."""
        match data.type or event.name:
            case "content_block_delta":
                if new := self._block(data.index, data.delta).add(data.delta):
                    self._count(new)
            case "content_block_start":
                self._count(len(data.content_block))
                self._blocks[data.index] = Block(data.content_block)
                self._require_blocks()
            case "message_start":
                self._begin(data.message)
            case "message_delta":
                self._merge(decode_fields(event.data), data)
            case "message_stop":
                self.done = True
            case "error":
                self._error, self.done = event.data, True
            case "message" if bytes(data.error) != b"null":  # neither name nor type: another API's
                self._error, self.done = event.data, True
            case _:
                self._stray = event.data

    def _begin(self, message: Fields) -> None:
        """Take a message_start. A second one starts the stream anew: a proxy called again."""
        if self._start is not None:
            self._blocks.clear()
            self._end, self._usage = {}, {}
        self._count(len(message))
        self._start = message

    def _block(self, index: int, delta: Fields) -> Block:
        """Return the block of a delta. Raises AnswerError for a block that did not start."""
        block = self._blocks.get(index)
        if block is None:
            fields = IMPLIED.get(bytes(delta.get("type", NULL)))
            if fields is None:
                message = f"a delta for block {index}, which did not start"
                raise AnswerError("invalid_response", message)
            block = self._blocks[index] = Block(dict(fields))
            self._require_blocks()
        return block

    def _merge(self, fields: Fields, data: _Data) -> None:
        """Merge a message_delta into the message: delta, cumulative usage and other fields."""
        more = {
            name: value for name, value in fields.items() if name not in _Data.__struct_fields__
        }
        self._count(len(more) + len(data.delta) + len(data.usage))
        known = self._start or EMPTY
        for name, value in (more | data.delta).items():
            if bytes(value) != b"null" or (name not in self._end and name not in known):
                self._end[name] = value  # a null replaces nothing
        self._usage |= {n: count for n, count in data.usage.items() if bytes(count) != b"null"}

    def _count(self, fields: int) -> None:
        self._fields += fields
        if self._fields > MAX_FIELDS:
            raise _too_many_fields()

    def _require_blocks(self) -> None:
        if len(self._blocks) > self._max_blocks:
            message = f"the stream has more than {self._max_blocks:,} blocks (NIGHTMILL_MAX_BLOCKS)"
            raise AnswerError("response_too_large", message)


def _too_many_fields() -> AnswerError:
    message = f"the stream has more than {MAX_FIELDS:,} fields"
    return AnswerError("response_too_large", message)


def _strict(loose: _LooseData) -> _Data:
    """Return the fields that have the right type, and defaults for all others."""
    return _Data(
        type=_text(loose.type),
        index=_index(loose.index),
        message=_object(loose.message),
        content_block=_object(loose.content_block),
        delta=_object(loose.delta),
        usage=_object(loose.usage),
        error=loose.error,
    )


def _text(value: msgspec.Raw) -> str:
    text = bytes(value)
    return msgspec.json.decode(text, type=str) if text.startswith(b'"') else ""


def _index(value: msgspec.Raw) -> int:
    try:
        return _decode_index(value)
    except NOT_JSON:
        return 0


def _object(value: msgspec.Raw) -> Fields:
    try:
        return decode_fields(value)
    except NOT_JSON:
        return {}
