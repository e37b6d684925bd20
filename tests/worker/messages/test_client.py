"""The client against real servers on loopback: aiohttp ones, and raw ones that misbehave."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from pydantic import SecretStr

from nightmill.errors import SettingsError
from nightmill.settings import Settings
from nightmill_worker.messages.client import MessagesClient, messages_url
from nightmill_worker.messages.outcome import Broken, Reply

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

PARAMS = b'{ "model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}] }'
MESSAGE = {"type": "message", "content": [{"type": "text", "text": "hey"}], "usage": {}}
SSE_HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_1\r\n"
EVENTS = [
    {"type": "message_start", "message": {**MESSAGE, "content": []}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hey"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_stop"},
]


def sse(events: list[dict[str, object]]) -> bytes:
    """Return the bytes of a stream of events."""
    return b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events
    )


def settings(base_url: str, **changes: object) -> Settings:
    """Return settings with a credential, made without looking at the environment."""
    fields = {"base_url": base_url, "api_key": SecretStr("sk-secret"), "auth_token": None}
    return Settings(**{**fields, **changes})  # type: ignore[arg-type]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Run an aiohttp server with one handler; give its base URL."""
    app = web.Application(client_max_size=1 << 25)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def answering(
    script: bytes, *, hold: bool = False, reset: bool = False
) -> AsyncIterator[str]:
    """Answer every connection's first request with exactly these bytes, then close it.

    `hold` keeps the connection open instead; `reset` ends it with a TCP reset.
    """
    released = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(script)
        await writer.drain()
        if hold:
            await released.wait()
        if reset:
            linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            released.set()


async def sent(base_url: str, params: bytes = PARAMS, **changes: object) -> Reply | Broken:
    """Send one call with a client of its own."""
    async with MessagesClient(settings(base_url, **changes)) as client:
        return await client.send(params)


async def body_seen(params: bytes) -> bytes:
    """Return the body that reaches an endpoint for `params`."""
    seen: list[bytes] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(await request.read())
        return web.json_response(MESSAGE)

    async with serving(handler) as url:
        assert isinstance(await sent(url, params), Reply)
    return seen[0]


@pytest.mark.parametrize(
    ("credential", "name", "value"),
    [
        ({"api_key": SecretStr("sk-1\n")}, "x-api-key", "sk-1"),
        ({"api_key": None, "auth_token": SecretStr("tok")}, "Authorization", "Bearer tok"),
        ({"api_key": None}, None, None),
    ],
)
async def test_a_call_carries_one_credential_and_the_version(
    credential: dict[str, object], name: str | None, value: str | None
) -> None:
    """Two credentials are refused by endpoints; a key read from a file ends with a line end."""
    seen: list[web.Request] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append(request)
        return web.json_response(MESSAGE, headers={"Request-Id": "req_1"})

    async with serving(handler) as url:
        reply = await sent(url, **credential)
    assert isinstance(reply, Reply)
    assert reply.headers.get("request-id") == "req_1"
    assert json.loads(reply.body) == MESSAGE
    headers = seen[0].headers
    assert (seen[0].method, seen[0].path) == ("POST", "/v1/messages")
    carried = {key: headers[key] for key in ("x-api-key", "Authorization") if key in headers}
    assert carried == ({name: value} if name else {})
    assert headers["anthropic-version"] == "2023-06-01"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("nightmill/")


@pytest.mark.parametrize("base", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
@pytest.mark.parametrize("path", ["", "/gateway"])
def test_a_base_url_may_have_v1_a_slash_or_a_path(base: str, path: str) -> None:
    """People paste all of these."""
    url = base.replace(":1", f":1{path}")
    assert str(messages_url(url)) == f"http://h:1{path}/v1/messages"


@pytest.mark.parametrize("base", ["http://", "http://[bad", "ftp://h", "http://h:99999"])
def test_a_base_url_that_is_none_is_refused_at_once(base: str) -> None:
    """Found at start, not by 10,000 jobs."""
    with pytest.raises(SettingsError, match="BASE_URL"):
        messages_url(base)


def test_a_credential_that_no_header_can_carry_is_refused_without_showing_it() -> None:
    """A line end inside would let a header be smuggled in."""
    with pytest.raises(SettingsError) as caught:
        MessagesClient(settings("http://h", api_key=SecretStr("sk-1\r\nevil: 1")))
    assert "sk-1" not in str(caught.value)


@pytest.mark.parametrize(
    "params",
    [
        PARAMS,
        b'{"max_tokens": 16000, "x": 1.50}',
        b'{"max_tokens": 99999, "stream" : true}',
        b'{"max_tokens": "many"}',
        b"not json",
        b'{"max_tokens": 1, "pad": "' + b"x" * (3 << 20) + b'"}',
    ],
    ids=len,
)
async def test_params_are_posted_as_they_are(params: bytes) -> None:
    """What was validated and hashed is what is sent, to the byte; the endpoint judges the rest."""
    assert await body_seen(params) == params


@pytest.mark.parametrize("extra", [b"", b', "stream": false'])
async def test_a_long_answer_is_asked_for_as_a_stream(extra: bytes) -> None:
    """Above 16,000 tokens an unstreamed connection is idle for so long that it gets cut."""
    body = await body_seen(b'{"max_tokens": 16001' + extra + b', "temperature": 0.50}')
    assert json.loads(body) == {"max_tokens": 16001, "stream": True, "temperature": 0.5}
    assert b"0.50" in body
    assert body.count(b"stream") == 1


async def test_a_stream_comes_back_as_its_message_and_keeps_the_connection() -> None:
    """A new connection for each streamed call would cost a TLS handshake each."""
    peers: set[object] = set()

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for event in EVENTS:
            await response.write(sse([event]))
        await response.write_eof()
        return response

    async with serving(handler) as url, MessagesClient(settings(url)) as client:
        for _ in range(3):
            reply = await client.send(b'{"stream": true}')
            assert isinstance(reply, Reply)
            assert json.loads(reply.body) == MESSAGE
    assert len(peers) == 1


async def test_an_error_event_is_the_reply_of_a_stream() -> None:
    """The classifier tells what it means."""
    error: dict[str, object] = {"type": "error", "error": {"type": "overloaded_error"}}
    script = f"{SSE_HEAD}\r\n".encode() + sse([*EVENTS[:3], error])
    async with answering(script, hold=True) as url:
        reply = await sent(url)
    assert isinstance(reply, Reply)
    assert (reply.status, json.loads(reply.body)) == (200, error)


async def test_a_connection_lost_after_message_stop_does_not_spoil_the_message() -> None:
    """The answer is whole; paying for it again would be waste."""
    chunk = sse(EVENTS)
    script = f"{SSE_HEAD}transfer-encoding: chunked\r\n\r\n{len(chunk):x}\r\n".encode() + chunk
    async with answering(script, reset=True) as url:
        reply = await sent(url)
    assert isinstance(reply, Reply)
    assert json.loads(reply.body) == MESSAGE


@pytest.mark.parametrize(
    ("script", "kinds"),
    [
        (b"", {"connection_dropped"}),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", {"truncated_response"}),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{", {"truncated_response"}),
        (
            b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nabc",
            {"truncated_response"},
        ),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", {"invalid_response"}),
        (f"{SSE_HEAD}\r\n".encode() + sse(EVENTS[:-1]), {"truncated_response"}),
        (f"{SSE_HEAD}\r\n".encode() + sse(EVENTS)[:-20], {"invalid_response"}),
        (f"{SSE_HEAD}\r\nevent: message_start\ndata: {{\n\n".encode(), {"invalid_response"}),
        (f"{SSE_HEAD}content-length: 9999\r\n\r\n".encode() + sse(EVENTS[:2]),
         {"truncated_response"}),
    ],
)  # fmt: skip
async def test_an_answer_that_ends_too_early_is_broken(script: bytes, kinds: set[str]) -> None:
    """A closed socket, a short body, a stream without message_stop: never a Reply."""
    async with answering(script) as url:
        broken = await sent(url)
    assert isinstance(broken, Broken)
    assert broken.kind in kinds
    assert broken.detail
    if script.startswith(SSE_HEAD.encode()):
        assert (broken.status, broken.headers.get("request-id")) == (200, "req_1")


async def test_a_reset_connection_is_broken() -> None:
    """A load balancer that goes away sends one."""
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
        broken = await sent(url, **{limit: 0.05})
    assert isinstance(broken, Broken)
    assert broken.kind == "timeout"
    assert broken.detail


async def test_a_closed_port_is_a_connection_error() -> None:
    """Nothing was sent, so nothing can have been paid for."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        broken = await sent(f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert isinstance(broken, Broken)
    assert (broken.kind, broken.status) == ("connection_error", None)


async def test_an_error_status_stands_even_when_its_body_is_cut() -> None:
    """A 429 must snooze and a 401 must stop the line, however badly they are delivered."""
    async with answering(b"HTTP/1.1 429 No\r\ncontent-length: 99\r\n\r\n{") as url:
        reply = await sent(url)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.body) == (429, b"")


async def test_redirects_are_not_followed_and_errors_not_retried() -> None:
    """A credential goes nowhere but to its base URL, and a call is made once."""
    calls: list[str] = []

    async def handler(request: web.Request) -> web.Response:
        calls.append(request.path)
        return web.Response(status=307, headers={"location": "/elsewhere"})

    async with serving(handler) as url:
        reply = await sent(url)
    assert isinstance(reply, Reply)
    assert (reply.status, calls) == (307, ["/v1/messages"])


async def test_a_credential_repeated_in_an_error_is_blotted_out() -> None:
    """Error texts are stored and exported."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=401, text=f"no such key: {request.headers['x-api-key']}")

    async with serving(handler) as url:
        reply = await sent(url)
    assert isinstance(reply, Reply)
    assert reply.body == b"no such key: [credential]"


async def test_a_cancelled_call_is_cancelled() -> None:
    """Shutdown and abort rely on it; everything else comes back as a value."""
    arrived = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        arrived.set()
        await asyncio.Event().wait()
        return web.Response()

    async with serving(handler) as url, MessagesClient(settings(url)) as client:
        call = asyncio.create_task(client.send(PARAMS))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


async def test_many_calls_share_one_session_without_a_limit() -> None:
    """The lane limits calls in flight; a second, hidden limit would only deceive it."""
    together = asyncio.Barrier(150)

    async def handler(request: web.Request) -> web.Response:
        await together.wait()
        return web.json_response(MESSAGE)

    async with serving(handler) as url, MessagesClient(settings(url)) as client:
        replies = await asyncio.gather(*(client.send(PARAMS) for _ in range(150)))
    assert all(isinstance(reply, Reply) for reply in replies)
