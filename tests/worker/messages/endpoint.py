"""Endpoints on loopback for the client's tests: correct ones and faulty ones."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from aiohttp import web
from pydantic import SecretStr

from nightmill.settings import Settings
from nightmill_worker.messages.client import MessagesClient
from nightmill_worker.messages.outcome import Broken, Reply

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]
Fields: TypeAlias = dict[str, object]

PARAMS = b'{ "model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}] }'
MESSAGE: Fields = {"type": "message", "content": [{"type": "text", "text": "hey"}], "usage": {}}
SSE_HEAD = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_1\r\n"
EVENTS: list[Fields] = [
    {"type": "message_start", "message": {**MESSAGE, "content": []}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hey"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_stop"},
]


def sse(events: list[Fields]) -> bytes:
    """Return the bytes of a stream of events."""
    return b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events
    )


def settings(base_url: str, **changes: object) -> Settings:
    """Return settings with a credential. The environment is not read."""
    usual = {"base_url": base_url, "api_key": SecretStr("sk-secret"), "auth_token": None}
    return Settings.model_validate(usual | changes)


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Run an aiohttp server with one handler and yield its base URL."""
    app = web.Application(client_max_size=1 << 25)
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, handler_cancellation=True)
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
    """Answer the first request of every connection with exactly these bytes, then close it.

    `hold` keeps the connection open instead. `reset` ends it with a TCP reset.
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


async def sent(base_url: str, params: bytes = PARAMS, /, **changes: object) -> Reply | Broken:
    """Send one call with its own client."""
    async with MessagesClient(settings(base_url, **changes)) as client:
        return await client.send(params)
