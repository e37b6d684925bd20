"""Answers that try to use up a worker's memory or time: HOSTILE has their chunks, by name."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain, count, islice, repeat
from typing import Final, TypeAlias

from tests.worker.messages.endpoint import Fields, sse

Chunks: TypeAlias = Iterator[bytes]

JSON_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
STREAM_HEAD: Final = JSON_HEAD.replace(b"application/json", b"text/event-stream")
ERROR_HEAD: Final = JSON_HEAD.replace(b"200 OK", b"500 No")
GZIP: Final = b"content-encoding: gzip\r\n"
CHUNKED: Final = b"transfer-encoding: chunked\r\n"
MIB: Final = 1 << 20
WIDE: Final = "x" * 60 + "\U0001f600"
"""Text that takes four bytes a character in memory, but little more than one as UTF-8."""
START: Final[Fields] = {"type": "message_start", "message": {"type": "message", "content": []}}
STOP: Final[Fields] = {"type": "message_stop"}
TEXT: Final[Fields] = {"type": "text", "text": ""}
TOOL: Final[Fields] = {"type": "tool_use", "id": "t", "name": "n", "input": {}}
MESSAGE: Final = b'{"type": "message", "content": ['


def answer(head: bytes, *chunks: bytes, endless: bytes = b"") -> Chunks:
    """Return the chunks of an answer: `head`, `chunks`, then `endless` for ever if there is one."""
    return chain([head, b"\r\n", *chunks], repeat(endless) if endless else ())


def block(index: int = 0, fields: Fields = TEXT) -> Fields:
    """Return the start of a content block."""
    return {"type": "content_block_start", "index": index, "content_block": fields}


def delta(kind: str, **fields: object) -> Fields:
    """Return one delta of block 0."""
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **fields}}


def stream(events: Iterable[Fields], *, first: Fields = TEXT) -> Chunks:
    """Return the chunks of a stream whose block 0 is `first`, with 200 events in each chunk."""
    waiting = chain([START, block(0, first)], events)
    groups = iter(lambda: list(islice(waiting, 200)), [])
    return chain([STREAM_HEAD, b"\r\n"], map(sse, groups))


def bomb(content: bytes) -> bytes:
    """Return 3 GiB of `content`, which has 1 MiB, compressed to about 3 MB, without an end."""
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    one = pack.compress(content) + pack.flush(zlib.Z_FULL_FLUSH)  # depends on nothing before it
    return gzip.compress(b"")[:10] + one * (3 << 10)


def wide_object(size: int) -> str:
    """Return a JSON object of about `size` bytes, all of it fields."""
    return "{" + ",".join(f'"{number:x}":0' for number in range(size // 9)) + "}"


def large_stream() -> Chunks:
    """Return a whole stream just below the limit."""
    texts = repeat(delta("text_delta", text="x" * 60_000 + WIDE), 500)
    return stream(chain(texts, [STOP]))


def large_input() -> Chunks:
    """Return a whole stream with a tool's input just below the limit."""
    piece = json.dumps({"text": "x" * 60_000 + WIDE})[1:-1] + ","
    pieces = chain(["{"], repeat(piece, 500), ['"z": 1}'])
    deltas = (delta("input_json_delta", partial_json=text) for text in pieces)
    return stream(chain(deltas, [STOP]), first=TOOL)


def many_fields() -> Chunks:
    """Return a stream with one event that is all fields."""
    event = f'data: {{"type":"message_start","message":{wide_object(7 * MIB)}}}\n\n'
    return answer(STREAM_HEAD, event.encode())


HOSTILE: Final[dict[str, Callable[[], Chunks]]] = {
    "gzip bomb": lambda: answer(JSON_HEAD + GZIP, bomb(b"x" * MIB)),
    "gzip bomb of a stream": lambda: answer(STREAM_HEAD + GZIP, bomb(b": \n" * (MIB // 3))),
    "gzip members": lambda: answer(JSON_HEAD + GZIP, endless=gzip.compress(b"") * 3000),
    "body": partial(answer, JSON_HEAD, MESSAGE, b'"', endless=b"x" * MIB),
    "body in small chunks": partial(answer, JSON_HEAD + CHUNKED, endless=b"2\r\n1,\r\n" * 9000),
    "line": partial(answer, STREAM_HEAD, b"data: ", endless=b"x" * MIB),
    "line ends": partial(answer, STREAM_HEAD, endless=b"\n" * MIB),
    "data lines": partial(answer, STREAM_HEAD, endless=b"data:\n" * 100_000),
    "pings": partial(answer, STREAM_HEAD, endless=b"event: ping\ndata: {}\n\n" * 10_000),
    "deltas": lambda: stream(repeat(delta("text_delta", text="ab"))),
    "wide deltas": lambda: stream(repeat(delta("text_delta", text=WIDE))),
    "odd deltas": lambda: stream(repeat(delta("text_delta", text="\ud83d"))),
    "citations": lambda: stream(repeat(delta("citations_delta", citation=0))),
    "fields": lambda: stream(delta("text_delta", **{f"f{n}": n}) for n in count()),
    "blocks": lambda: stream(map(block, count(1))),
    "event of many fields": many_fields,
    "list of numbers": lambda: answer(JSON_HEAD, MESSAGE, b"1," * (14 * MIB), b"1]}"),
    "list of NaN": lambda: answer(JSON_HEAD, MESSAGE, b"NaN," * MIB, b"1]}"),
    "list of odd strings": lambda: answer(JSON_HEAD, MESSAGE, rb'"\ud83d",' * 900_000, b"1]}"),
    "large stream": large_stream,
    "large tool input": large_input,
    "headers": lambda: chain([JSON_HEAD], repeat(b"x-a: " + b"b" * 60_000 + b"\r\n")),
    "header line": lambda: chain([JSON_HEAD, b"x-a: "], repeat(b"b" * MIB)),
    "interim answers": lambda: repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000),
    "error": partial(answer, ERROR_HEAD, endless=b"x" * MIB),
    "error bomb": lambda: answer(ERROR_HEAD + GZIP, bomb(b"x" * MIB)),
}
