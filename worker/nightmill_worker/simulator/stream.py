"""The server-sent events of an answer, in the endpoint's order and shape."""

from collections.abc import Iterator
from typing import cast

import msgspec

from nightmill_worker.simulator.answer import Answer, Block, pieces_of

# Words of a text delta and characters of a tool-input delta.
PIECES_PER_DELTA = 6
JSON_PER_DELTA = 24
MAX_TICKS = 20
TICK_S = 0.05
PING = b'event: ping\ndata: {"type":"ping"}\n\n'

_encode = msgspec.json.Encoder().encode


def event(data: dict[str, object]) -> bytes:
    """Encode one event, whose name is its `type`."""
    return b"event: %b\ndata: %b\n\n" % (cast("str", data["type"]).encode(), _encode(data))


def error_event(kind: str, message: str) -> bytes:
    """Encode an error event, which can follow an HTTP 200."""
    return event({"type": "error", "error": {"type": kind, "message": message}})


def events(answer: Answer) -> list[bytes]:
    """Return all events of the stream, from message_start to message_stop."""
    usage = cast("dict[str, object]", answer.body["usage"])
    start = answer.body | {
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage | {"output_tokens": 1},
    }
    stop = {key: answer.body[key] for key in ("stop_reason", "stop_sequence")}
    framed = [event({"type": "message_start", "message": start})]
    for index, block in enumerate(answer.content):
        framed.extend(_block_events(index, block))
    framed.insert(min(2, len(framed)), PING)
    framed.append(event({"type": "message_delta", "delta": stop, "usage": _final_usage(usage)}))
    framed.append(event({"type": "message_stop"}))
    return framed


def _final_usage(usage: dict[str, object]) -> dict[str, object]:
    """Return the cumulative counts of message_delta."""
    return {key: value for key, value in usage.items() if key != "service_tier"}


def _block_events(index: int, block: Block) -> Iterator[bytes]:
    yield event(
        {"type": "content_block_start", "index": index, "content_block": _empty(block)},
    )
    for delta in _deltas(block):
        yield event({"type": "content_block_delta", "index": index, "delta": delta})
    yield event({"type": "content_block_stop", "index": index})


def _empty(block: Block) -> Block:
    """Return the block as content_block_start sends it, without its content."""
    blanks: Block = {"text": "", "thinking": "", "signature": "", "input": {}}
    return {key: blanks.get(key, value) for key, value in block.items()}


def _deltas(block: Block) -> Iterator[Block]:
    match block:
        case {"type": "text", "text": str(text)}:
            for part in _parts(text):
                yield {"type": "text_delta", "text": part}
        case {"type": "thinking", "thinking": str(text), "signature": signature}:
            for part in _parts(text):
                yield {"type": "thinking_delta", "thinking": part}
            yield {"type": "signature_delta", "signature": signature}
        case _:
            # The endpoint starts every tool input with an empty delta.
            yield {"type": "input_json_delta", "partial_json": ""}
            text = _encode(block["input"]).decode()
            for place in range(0, len(text), JSON_PER_DELTA):
                part = text[place : place + JSON_PER_DELTA]
                yield {"type": "input_json_delta", "partial_json": part}


def _parts(text: str) -> Iterator[str]:
    pieces = pieces_of(text)
    for place in range(0, len(pieces), PIECES_PER_DELTA):
        yield "".join(pieces[place : place + PIECES_PER_DELTA])


def ticks(framed: list[bytes], latency_s: float) -> list[bytes]:
    """Group events into 20 writes at most, at least 50 ms apart over the latency."""
    count = max(1, min(MAX_TICKS, len(framed), int(latency_s / TICK_S)))
    size = -(-len(framed) // count)
    return [b"".join(framed[i : i + size]) for i in range(0, len(framed), size)]
