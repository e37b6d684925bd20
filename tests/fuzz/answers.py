"""Answers of an endpoint as bytes: a good one for a text, and odd ones of every kind."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from dataclasses import dataclass, field
from typing import Any, Final

from tests.fuzz import odd

BOMB: Final = 12_000_000
"""Bytes that a small compressed body may become; the limit of the worker is lower."""
STATUSES: Final = (
    *("200",) * 12,
    *("201", "202", "204", "206", "299", "301", "304", "307", "400", "401", "402", "403", "404"),
    *("405", "407", "408", "409", "413", "418", "422", "429", "429", "429", "451", "499", "500"),
    *("502", "503", "504", "520", "529", "529", "599", "600", "999", "1000", "000", "0", "-200"),
    *("20", "2000000000000000000000", "abc", ""),
)
HEADERS: Final = (
    *("request-id", "x-request-id", "retry-after", "retry-after-ms", "date", "x-should-retry"),
    *("content-type", "content-length", "content-encoding", "transfer-encoding", "connection"),
    *("anthropic-ratelimit-requests-limit", "anthropic-ratelimit-requests-remaining"),
    *("anthropic-ratelimit-requests-reset", "anthropic-ratelimit-tokens-limit"),
    *("anthropic-ratelimit-tokens-remaining", "anthropic-ratelimit-tokens-reset"),
    *("anthropic-ratelimit-input-tokens-limit", "anthropic-ratelimit-output-tokens-remaining"),
    *("x-ratelimit-limit-requests", "x-ratelimit-remaining-tokens", "set-cookie", "trailer"),
)
VALUES: Final = (
    *("", "0", "-1", "1", "nan", "inf", "1e400", "0x10", "9" * 40, "1.5", "true", "false", ", ,"),
    *("2026-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+23:59", "1s", "6m0s"),
    *("Fri, 31 Dec 9999 23:59:59 -2359", "Thu, 01 Jan 1970 00:00:00 GMT", "Mon, 32 Foo 10000"),
    *("gzip", "deflate", "br", "zstd", "gzip, gzip", "identity", "chunked", "close", "keep-alive"),
    *("Text/Event-Stream", "text/event-stream; charset=utf-16", "application/json", "text/html"),
)
HEADERS_ARE_ODD: Final = 0.3
BODY_IS_ODD: Final = 0.8


@dataclass
class Answer:
    """Bytes to send, how they are cut into writes, and what follows them."""

    data: bytes
    cuts: list[int] = field(default_factory=list)
    """Positions where a new write begins."""
    then: str = "keep"
    """keep | close | abort (RST) | stall (silent until the caller gives up)"""


def good(text: str) -> Answer:
    """Return the whole answer that repeats `text`."""
    body = json.dumps(message(text)).encode()
    headers = {"content-type": "application/json", "request-id": f"req {text}"}
    return Answer(_response("200", headers, body))


def message(text: str) -> dict[str, Any]:
    """Return a Message with one text block."""
    usage = {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 0}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {**usage, "cache_creation_input_tokens": 0, "service_tier": "standard"},
    }


def odd_answer(rng: random.Random, text: str) -> Answer:
    """Return an answer in which something is odd."""
    status = rng.choice(STATUSES) if rng.random() < 0.6 else "200"
    streamed = rng.random() < 0.4
    body = _stream(rng, text) if streamed else _body(rng, status, text)
    headers = {"content-type": "text/event-stream" if streamed else "application/json"}
    body, headers = _compressed(rng, body, headers)
    framed = _framed(rng, status, headers, body)
    cuts = sorted(rng.randint(0, len(framed)) for _ in range(rng.choice((0, 0, 1, 3))))
    then = rng.choice(("keep",) * 6 + ("close",) * 3 + ("abort", "stall"))
    extra = rng.random()
    if extra < 0.15:
        # In one write: what comes after an answer, when the connection is in use again, is that
        # request's answer for every client of HTTP/1.1.
        cuts = []
        if extra < 0.1:
            framed = odd.damaged(rng, framed)
        else:
            framed += _response("200", headers, json.dumps(message("a stray answer")).encode())
    if then == "stall":  # before the end: else the next request on the connection gets no answer
        framed = framed[: rng.randrange(len(framed))] if framed else b""
        cuts = []
    return Answer(framed, cuts, then)


def _body(rng: random.Random, status: str, text: str) -> bytes:
    failed = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    valid = message(text) if status.startswith("2") else failed
    if rng.random() > BODY_IS_ODD:
        return odd.encoded(rng, valid)
    match rng.randint(0, 7):
        case 0:
            return odd.damaged(rng, odd.encoded(rng, valid))
        case 1:
            return odd.encoded(rng, odd.value(rng))
        case 2:
            return rng.choice((b"", b"\n", b"<html>no</html>", b"\xff\xfe", b"[" * 100_000))
        case 3:
            return b"\xef\xbb\xbf" + odd.encoded(rng, valid)
        case _:
            return odd.encoded(rng, odd.changed(rng, valid))


def _stream(rng: random.Random, text: str) -> bytes:
    """Return server-sent events, some of them odd, cut anywhere."""
    events = _events(text)
    for _ in range(rng.choice((0, 1, 1, 2))):
        at = rng.randrange(len(events))
        match rng.randint(0, 4):
            case 0:
                events[at] = odd.changed(rng, events[at])
            case 1:
                del events[at]
            case 2:
                events.insert(at, odd.changed(rng, rng.choice(events)))
            case 3:
                events.insert(at, {"type": "error", "error": odd.value(rng)})
            case _:
                rng.shuffle(events)
        if not events:
            break
    end = rng.choice((b"\n", b"\n", b"\r\n", b"\r"))
    parts = [_event(rng, each, end) for each in events]
    if rng.random() < 0.2:
        parts.insert(
            rng.randint(0, len(parts)), rng.choice((b"data: [DONE]\n\n", b":\n", b"id\n\n"))
        )
    data = b"".join(parts)
    return odd.damaged(rng, data) if rng.random() < 0.3 else data


def _events(text: str) -> list[Any]:
    start = {**message(""), "content": [], "stop_reason": None}
    block = {"type": "text", "text": ""}
    deltas = [{"type": "text_delta", "text": letter} for letter in text]
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 5},
        },
        {"type": "message_stop"},
    ]


def _event(rng: random.Random, event: Any, end: bytes) -> bytes:  # noqa: ANN401 - any JSON
    name = event.get("type") if isinstance(event, dict) else None
    lines = [b"data: " + odd.encoded(rng, event)]
    if isinstance(name, str):
        lines.insert(0, b"event: " + name.encode(errors="replace"))
    return end.join(lines) + end * 2


def _compressed(
    rng: random.Random, body: bytes, headers: dict[str, str]
) -> tuple[bytes, dict[str, str]]:
    """Compress some bodies, some of them wrongly."""
    kind = rng.random()
    if kind < 0.85:
        return body, headers
    if kind < 0.88:
        body += b" " * BOMB
    coding = rng.choice(("gzip", "deflate", "br", "zstd", "what"))
    packed = gzip.compress(body, 1) if coding == "gzip" else zlib.compress(body, 1)
    if rng.random() < 0.3:
        packed = odd.damaged(rng, packed)
    return packed, {**headers, "content-encoding": coding}


def _framed(rng: random.Random, status: str, headers: dict[str, str], body: bytes) -> bytes:
    """Return the response with its length, in chunks, or until the connection closes."""
    extra = [
        (rng.choice(HEADERS), _header_value(rng))
        for _ in range(rng.choice((1, 3, 100)) if rng.random() < HEADERS_ARE_ODD else 0)
    ]
    if rng.random() < 0.3:
        chunks = _chunked(rng, body)
        return _response(
            status, {**headers, "transfer-encoding": "chunked"}, chunks, extra, sized=False
        )
    return _response(status, headers, body, extra, sized=rng.random() < 0.9)


def _header_value(rng: random.Random) -> str:
    if rng.random() < 0.7:
        return rng.choice(VALUES)
    return rng.choice((odd.text(rng), "é\xa0\xff", "x" * 9_000, "x" * 70_000, "a\r\n b", "\0"))


def _chunked(rng: random.Random, body: bytes) -> bytes:
    size = rng.choice((1, 7, 4096)) if len(body) < 5_000 else 65_536
    parts = [body[at : at + size] for at in range(0, len(body), size)]
    data = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    return data + rng.choice((b"0\r\n\r\n",) * 4 + (b"", b"0\r\n", b"zz\r\n\r\n", b"-1\r\n"))


def _response(
    status: str,
    headers: dict[str, str],
    body: bytes,
    extra: list[tuple[str, str]] | None = None,
    *,
    sized: bool = True,
) -> bytes:
    lines = [
        f"HTTP/1.1 {status} Whatever",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    if sized:
        lines.append(f"content-length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in extra or ()]
    head = "\r\n".join(lines) + "\r\n\r\n"
    return head.encode("utf-8", errors="surrogatepass") + body
