"""A broken proxy sends answers nobody asked for: no job may get the answer of another one."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from nightmill_worker.messages.client import MessagesClient
from nightmill_worker.messages.outcome import Broken, Reply
from tests.rig import until
from tests.worker.messages.endpoint import settings


def params(text: str) -> bytes:
    """Return a request with this prompt."""
    return json.dumps({"max_tokens": 5, "messages": [{"role": "user", "content": text}]}).encode()


def message(text: str) -> bytes:
    """Return an HTTP response whose Message says `text`."""
    body = json.dumps({"type": "message", "content": [{"type": "text", "text": text}], "usage": {}})
    head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()


def text_of(reply: Reply | Broken) -> str:
    """Return what the Message of a reply says."""
    assert isinstance(reply, Reply), reply
    return str(json.loads(reply.body)["content"][0]["text"])


class Proxy:
    """Answers each request with its own prompt. `after` returns bytes that follow an answer."""

    def __init__(self) -> None:
        """Send nothing after an answer."""
        self.after: Callable[[str], bytes] = lambda _: b""
        self.writers: list[asyncio.StreamWriter] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.writers.append(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                size = int(head.partition("content-length: ")[2].split()[0])
                request = json.loads(await reader.readexactly(size))
                text = request["messages"][0]["content"]
                writer.write(message(text) + self.after(text))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def proxied() -> AsyncIterator[tuple[Proxy, MessagesClient]]:
    """Run a proxy and a client of it."""
    proxy = Proxy()
    async with await asyncio.start_server(proxy.serve, "127.0.0.1", 0) as server:
        proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with MessagesClient(settings(proxy.url)) as client:
            yield proxy, client
        for writer in proxy.writers:
            writer.close()


def whole(_: str) -> bytes:
    """Return a whole answer that belongs to no request."""
    return message("stray")


def half(_: str) -> bytes:
    """Return the beginning of an answer."""
    return message("stray")[:30]


def garbage(_: str) -> bytes:
    """Return what is no HTTP."""
    return b"\0\0\0"


@pytest.mark.parametrize("stray", [whole, half])
async def test_what_follows_an_answer_at_once_is_not_the_next_answer(
    stray: Callable[[str], bytes],
) -> None:
    """The stray bytes come in the same segment as the answer."""
    async with proxied() as (proxy, client):
        proxy.after = stray
        texts = [text_of(await client.send(params(str(n)))) for n in range(5)]
    assert texts == [str(n) for n in range(5)]


@pytest.mark.parametrize("stray", [whole, half, garbage])
@pytest.mark.parametrize("processed", [True, False])
async def test_what_arrives_while_a_connection_is_idle_is_not_the_next_answer(
    stray: Callable[[str], bytes],
    processed: bool,  # noqa: FBT001
) -> None:
    """The bytes may have been processed, or still be in the socket when the next call begins."""
    async with proxied() as (proxy, client):
        assert text_of(await client.send(params("1"))) == "1"
        ((connection, _),) = client._pool._idle
        proxy.writers[0].write(stray(""))
        if processed:
            await until(lambda: connection.transport is None)
        assert text_of(await client.send(params("2"))) == "2"
        assert len(proxy.writers) == 2


async def test_a_closed_idle_connection_is_not_used() -> None:
    """The end of the connection is in the socket, but not processed: a call would fail."""
    async with proxied() as (proxy, client):
        assert text_of(await client.send(params("1"))) == "1"
        proxy.writers[0].get_extra_info("socket").shutdown(socket.SHUT_WR)
        assert text_of(await client.send(params("2"))) == "2"


async def test_clean_connections_are_reused() -> None:
    """A new connection for each call would cost a TLS handshake."""
    async with proxied() as (proxy, client):
        for n in range(5):
            assert text_of(await client.send(params(str(n)))) == str(n)
        assert len(proxy.writers) == 1


async def test_a_proxy_that_repeats_answers_swaps_none() -> None:
    """It swapped 324 of 600 answers: each stray one shifted all later ones by one."""
    async with proxied() as (proxy, client):
        proxy.after = lambda text: message(text) if int(text) % 3 == 0 else b""

        async def calls(first: int) -> None:
            for n in range(first, 600, 10):
                assert text_of(await client.send(params(str(n)))) == str(n)

        await asyncio.gather(*(calls(first) for first in range(10)))
