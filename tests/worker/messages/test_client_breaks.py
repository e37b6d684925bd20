"""The client against servers that cut, stall, reset or send garbage: it returns a value."""

from __future__ import annotations

import gzip
import json
import socket

import pytest

from nightmill_worker.messages.outcome import Broken, Reply
from tests.worker.messages.endpoint import (
    EVENTS,
    MESSAGE,
    PARAMS,
    SSE_HEAD,
    Fields,
    answering,
    sent,
    sse,
)

GZIP_HEAD = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n"
GZIPPED = gzip.compress(json.dumps(MESSAGE).encode())


async def test_an_error_event_is_the_reply_of_a_stream() -> None:
    """The classifier decides what it means."""
    error: Fields = {"type": "error", "error": {"type": "overloaded_error"}}
    script = f"{SSE_HEAD}\r\n".encode() + sse([*EVENTS[:3], error])
    async with answering(script, hold=True) as url:
        reply = await sent(url)
    assert isinstance(reply, Reply)
    assert (reply.status, json.loads(reply.body)) == (200, error)


async def test_a_connection_lost_after_message_stop_does_not_spoil_the_message() -> None:
    """The answer is whole, so it must not be paid again."""
    chunk = sse(EVENTS)
    script = f"{SSE_HEAD}transfer-encoding: chunked\r\n\r\n{len(chunk):x}\r\n".encode() + chunk
    async with answering(script, reset=True) as url:
        reply = await sent(url)
    assert isinstance(reply, Reply)
    assert json.loads(reply.body) == MESSAGE


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (b"", "connection_dropped"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", "truncated_response"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{", "truncated_response"),
        (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 4\r\n\r\n\x1f\x8bab",
            "truncated_response",
        ),
        (GZIP_HEAD + GZIPPED[:-20], "truncated_response"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "invalid_response"),
        (f"{SSE_HEAD}\r\n".encode() + sse(EVENTS[:-1]), "truncated_response"),
        (f"{SSE_HEAD}\r\n".encode() + sse(EVENTS)[:-60], "truncated_response"),
        (f"{SSE_HEAD}\r\nevent: message_start\ndata: {{\n\n".encode(), "invalid_response"),
        (f"{SSE_HEAD}content-length: 9999\r\n\r\n".encode() + sse(EVENTS[:2]),
         "truncated_response"),
    ],
)  # fmt: skip
async def test_an_answer_that_ends_too_early_is_broken(script: bytes, kind: str) -> None:
    """A closed socket, a short body or a cut stream is not a Reply."""
    async with answering(script) as url:
        broken = await sent(url)
    assert isinstance(broken, Broken)
    assert broken.kind == kind
    assert broken.detail
    if script.startswith(SSE_HEAD.encode()):
        assert (broken.status, broken.headers.get("request-id")) == (200, "req_1")


async def test_a_reset_connection_is_broken() -> None:
    """A load balancer that restarts sends a reset."""
    async with answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", reset=True) as url:
        broken = await sent(url)
    assert isinstance(broken, Broken)
    assert broken.kind in {"connection_dropped", "truncated_response"}


@pytest.mark.parametrize(
    "script", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", f"{SSE_HEAD}\r\n".encode()]
)
@pytest.mark.parametrize("limit", ["read_timeout_s", "job_timeout_s"])
async def test_silence_and_slowness_end_as_timeouts(script: bytes, limit: str) -> None:
    """Before the first byte, inside a body and inside a stream."""
    async with answering(script, hold=True) as url:
        broken = await sent(url, PARAMS, **{limit: 0.05})
    assert isinstance(broken, Broken)
    assert broken.kind == "timeout"
    assert broken.detail


async def test_a_closed_port_is_a_connection_error() -> None:
    """Nothing was sent, so nothing was paid."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        broken = await sent(f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert isinstance(broken, Broken)
    assert (broken.kind, broken.status) == ("connection_error", None)


async def test_an_error_status_stands_even_when_its_body_is_cut() -> None:
    """A 429 snoozes and a 401 stops the account, also when the body is cut."""
    async with answering(b"HTTP/1.1 429 No\r\ncontent-length: 99\r\n\r\n{") as url:
        reply = await sent(url)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.body) == (429, b"")
