"""Builds one Message from its stream of events. Pure, in linear time.

The rule for a delta: a string is appended to the block's field of that name, any other value
replaces the field. It covers text, thinking, signatures and delta types that do not exist yet.
Two kinds differ: the pieces of a tool's input are JSON, and citations come one at a time.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from nightmill.errors import NightmillError
from nightmill_worker.messages.outcome import NOT_JSON, BreakKind
from nightmill_worker.messages.sse import Event

Fields: TypeAlias = dict[str, object]

# An event without a name is called "message": the `type` in its data decides. content_block_stop is
# not needed: message_stop ends all blocks.
KNOWN: Final = frozenset(
    {
        "message",
        "message_start",
        "content_block_start",
        "content_block_delta",
        "message_delta",
        "message_stop",
    }
)
CUT_SHORT: Final = ("max_tokens", "model_context_window_exceeded")


class StreamError(NightmillError):
    """The stream breaks the Messages streaming contract, or ended too early."""

    def __init__(self, kind: BreakKind, message: str) -> None:
        """Take the kind of break and the error's text."""
        super().__init__(message)
        self.kind: BreakKind = kind


class _Data(msgspec.Struct):
    """The fields of all known events. `type` says which of them an event has."""

    type: str = ""
    index: int = 0
    message: Fields = {}
    content_block: Fields = {}
    delta: Fields = {}
    usage: Fields = {}


_decode = msgspec.json.Decoder(_Data).decode


class _Block:
    """One content block that is still growing."""

    def __init__(self, start: Fields) -> None:
        self.fields = start
        self._texts: dict[str, list[str]] = {}
        self._input: list[str] = []
        self._citations: list[object] = []

    def add(self, delta: Fields) -> None:
        """Take one content_block_delta's `delta`."""
        kind = delta.pop("type", "")
        if kind == "input_json_delta":
            self._input.append(str(delta.get("partial_json", "")))
        elif kind == "citations_delta":
            self._citations.append(delta.get("citation"))
        else:
            for name, value in delta.items():
                if isinstance(value, str):
                    self._texts.setdefault(name, []).append(value)
                else:
                    self.fields[name] = value

    def finish(self) -> Fields:
        """Return the whole block. Raises DecodeError for a tool's input that is not JSON."""
        for name, parts in self._texts.items():
            self.fields[name] = "".join((str(self.fields.get(name) or ""), *parts))
        if self._citations:
            before = self.fields.get("citations")
            self.fields["citations"] = [
                *(before if isinstance(before, list) else ()),
                *self._citations,
            ]
        if partial_json := "".join(self._input):
            self.fields["input"] = msgspec.json.decode(partial_json, type=dict[str, msgspec.Raw])
        return self.fields


class Accumulator:
    """Takes the events of one stream and returns the Message that they make.

    Unknown events are ignored. `done` is true after message_stop or an error event. Later events
    do not change the Message.
    """

    def __init__(self) -> None:
        """Start before message_start."""
        self.done = False
        self._message: Fields | None = None
        self._blocks: dict[int, _Block] = {}
        self._error: bytes | None = None

    def add(self, event: Event) -> None:
        """Take the next event. Raises StreamError for data that breaks the contract."""
        if event.name == "error":
            self._error, self.done = event.data, True
        elif event.name in KNOWN:
            try:
                self._take(event, _decode(event.data))
            except (*NOT_JSON, KeyError) as error:
                raise StreamError("invalid_response", f"bad {event.name} event: {error}") from None

    def body(self) -> bytes:
        """Return the Message as JSON, or an error event's data as it came.

        Raises StreamError when the stream ended too early or a tool's input is not JSON.
        """
        if self._error is not None:
            return self._error
        if self._message is None or not self.done:
            raise StreamError("truncated_response", "the stream ended without message_stop")
        try:
            content = [self._blocks[index].finish() for index in sorted(self._blocks)]
        except NOT_JSON as error:
            cut = self._message.get("stop_reason") in CUT_SHORT
            kind: BreakKind = "input_cut" if cut else "invalid_response"
            raise StreamError(kind, f"a tool's input is not a JSON object: {error}") from None
        return msgspec.json.encode({**self._message, "content": content})

    def _take(self, event: Event, data: _Data) -> None:
        """Take one event by its type. Raises KeyError for a delta of a block that did not start."""
        match data.type or event.name:
            case "message_start":
                self._message = data.message
            case "content_block_start":
                self._blocks[data.index] = _Block(data.content_block)
            case "content_block_delta":
                self._blocks[data.index].add(data.delta)
            case "message_delta":
                self._merge(msgspec.json.decode(event.data, type=Fields), data)
            case "message_stop":
                self.done = True
            case "error":
                self._error, self.done = event.data, True

    def _merge(self, fields: Fields, data: _Data) -> None:
        """Merge a message_delta into the message: delta, cumulative usage and other fields."""
        if self._message is None:
            raise StreamError("invalid_response", "message_delta before message_start")
        usage = {name: count for name, count in data.usage.items() if count is not None}
        more = {
            name: value for name, value in fields.items() if name not in _Data.__struct_fields__
        }
        before = self._message.get("usage")
        self._message |= more | data.delta
        self._message["usage"] = {**before, **usage} if isinstance(before, dict) else usage
