"""The events of a stream, made of a whole Message. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nightmill_gateway.answers.errors import ApiError

PING: Final = b'event: ping\ndata: {"type":"ping"}\n\n'
_AT_THE_END: Final = ("stop_reason", "stop_sequence", "stop_details", "container")
"""Fields of a Message that message_delta has."""
_BLANK: Final[dict[str, object]] = {"text": "", "thinking": "", "signature": "", "input": {}}
_encode = msgspec.json.Encoder().encode


def events(message: Mapping[str, Any]) -> Iterator[bytes]:
    """Yield the events of a stream that makes `message`."""
    usage = message.get("usage") or {}
    begun = {name: None for name in _AT_THE_END if name in message}
    start = {**message, "content": [], **begun, "usage": {**usage, "output_tokens": 0}}
    yield event({"type": "message_start", "message": start})
    for index, block in enumerate(message.get("content") or []):
        yield from _block(index, block)
    delta = {name: message[name] for name in _AT_THE_END if name in message}
    yield event({"type": "message_delta", "delta": delta, "usage": usage})
    yield event({"type": "message_stop"})


def error_event(error: ApiError, request_id: str) -> bytes:
    """Return the event of an error after the stream has begun."""
    return b"event: error\ndata: " + error.envelope(request_id) + b"\n\n"


def event(data: Mapping[str, object]) -> bytes:
    """Return one event, whose name is its type."""
    return b"event: %b\ndata: %b\n\n" % (str(data["type"]).encode(), _encode(data))


def _block(index: int, block: Mapping[str, Any]) -> Iterator[bytes]:
    deltas = list(_deltas(block))
    blank = dict(block)
    for delta in deltas:
        field = _FIELDS[delta["type"]]
        if field == "citations":
            blank[field] = []
        else:
            blank[field] = _BLANK[field]
    yield event({"type": "content_block_start", "index": index, "content_block": blank})
    for delta in deltas:
        yield event({"type": "content_block_delta", "index": index, "delta": delta})
    yield event({"type": "content_block_stop", "index": index})


_FIELDS: Final = {
    "text_delta": "text",
    "citations_delta": "citations",
    "thinking_delta": "thinking",
    "signature_delta": "signature",
    "input_json_delta": "input",
}
"""Type of a delta -> the field of a block that it adds to."""


def _deltas(block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what is added to the blank block; blocks of other kinds come whole in their start."""
    match block:
        case {"type": "text", "text": str(text)}:
            for citation in block.get("citations") or []:
                yield {"type": "citations_delta", "citation": citation}
            yield {"type": "text_delta", "text": text}
        case {"type": "thinking", "thinking": str(text)}:
            yield {"type": "thinking_delta", "thinking": text}
            if isinstance(block.get("signature"), str):
                yield {"type": "signature_delta", "signature": block["signature"]}
        case {"type": str(), "input": dict(given), "name": str()}:
            yield {"type": "input_json_delta", "partial_json": _encode(given).decode()}
        case _:
            return
