"""Servers on loopback whose every byte a test decides, proxies, and calls to them."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pytest

from nightmill_worker.messages.client import MessagesClient
from nightmill_worker.messages.outcome import Broken, Reply
from tests.worker.messages.endpoint import PARAMS, settings

Reader: TypeAlias = asyncio.StreamReader
Writer: TypeAlias = asyncio.StreamWriter
Serve: TypeAlias = Callable[[Reader, Writer], Awaitable[None]]
Way: TypeAlias = Literal["plain", "tls", "tunnel", "tls in tls"]
WAYS: tuple[Way, ...] = ("plain", "tls", "tunnel", "tls in tls")
OPENED = b"HTTP/1.1 200 Connection established\r\n\r\n"
GONE = (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, RuntimeError)


class Server:
    """A server that runs, with the connections that it has had."""

    def __init__(self, serve: Serve) -> None:
        """Take what serves one connection."""
        self._serve = serve
        self.port = 0
        self.writers: list[Writer] = []
        self.tasks: set[asyncio.Task[None]] = set()

    def serve(self, reader: Reader, writer: Writer) -> None:
        """Serve one connection until its function returns or the test ends."""
        self.writers.append(writer)
        task = asyncio.create_task(self._run(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _run(self, reader: Reader, writer: Writer) -> None:
        with suppress(*GONE):
            await self._serve(reader, writer)
        writer.close()

    async def end(self) -> None:
        """Close all connections."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for writer in self.writers:
            with suppress(AttributeError):  # Python 3.11.2: of a transport that is closed
                writer.transport.abort()


@asynccontextmanager
async def serving(
    serve: Serve, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[Server]:
    """Run a server."""
    server = Server(serve)
    listening = await asyncio.start_server(server.serve, host, port, ssl=tls, backlog=2000)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await server.end()


def context(folder: Path, name: str = "good") -> ssl.SSLContext:
    """Return the context of a server with this certificate."""
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return made


def whole(body: bytes = b"{}", status: str = "200 OK", *headers: str) -> bytes:
    """Return an answer with its length."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def half_close(writer: Writer) -> None:
    """End the connection for the peer below TLS, so without close_notify; keep it open here."""
    with socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())) as copied:
        copied.shutdown(socket.SHUT_WR)


async def head_of(reader: Reader) -> str:
    """Return the head of the next request."""
    return (await reader.readuntil(b"\r\n\r\n")).decode()


def length_in(head: str) -> int:
    """Return the length of the body that a head names."""
    return int(head.lower().partition("content-length: ")[2].split()[0])


async def request_of(reader: Reader) -> tuple[str, bytes]:
    """Return the head and the body of the next request."""
    head = await head_of(reader)
    return head, await reader.readexactly(length_in(head))


def answers(answer: bytes | Callable[[bytes], bytes] = whole) -> Serve:
    """Return what answers each request, with its own body if nothing else is said."""

    async def serve(reader: Reader, writer: Writer) -> None:
        while True:
            _, body = await request_of(reader)
            writer.write(answer if isinstance(answer, bytes) else answer(body))
            await writer.drain()

    return serve


async def silent(reader: Reader, writer: Writer) -> None:
    """Accept a connection and do nothing."""
    del reader, writer
    await asyncio.Event().wait()


def tunnels(port: int, seen: list[str] | None = None, opened: bytes = OPENED) -> Serve:
    """Return what is a proxy: it connects each CONNECT to this port, whatever name it has."""

    async def serve(reader: Reader, writer: Writer) -> None:
        head = await head_of(reader)
        if seen is not None:
            seen.append(head)
        to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(opened)
            await asyncio.gather(_copy(reader, to_writer), _copy(to_reader, writer))
        finally:
            with suppress(AttributeError):
                to_writer.transport.abort()

    return serve


async def _copy(reader: Reader, writer: Writer) -> None:
    with suppress(*GONE):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    with suppress(*GONE):
        writer.close()


def client(url: str, **changes: object) -> MessagesClient:
    """Return a client of this endpoint."""
    return MessagesClient(settings(url, **changes))


async def sent(url: str, params: bytes = PARAMS, **changes: object) -> Reply | Broken:
    """Send one call with its own client."""
    async with asyncio.timeout(30), client(url, **changes) as calls:
        return await calls.send(params)


def resolve(monkeypatch: pytest.MonkeyPatch, names: Mapping[str, list[str]]) -> list[str]:
    """Let the running loop know only these names; return a list of the names it is asked for."""
    asked: list[str] = []

    async def getaddrinfo(host: str, port: int, **_: object) -> list[Any]:
        with suppress(ValueError):  # uvloop asks for addresses, too
            return [address_of(str(ip_address(host)), port)]
        asked.append(host)
        await asyncio.sleep(0)
        if host not in names:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [address_of(address, port) for address in names[host]]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return asked


def address_of(address: str, port: int) -> tuple[Any, ...]:
    """Return what getaddrinfo returns for an address."""
    if ":" in address:
        kind = (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        return (*kind, "", (address, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))


def refused(reply: Reply | Broken) -> str:
    """Return why no connection was made."""
    assert isinstance(reply, Broken), reply
    assert reply.kind == "connection_error", reply
    return reply.detail


@asynccontextmanager
async def reached(
    way: Way, folder: Path, monkeypatch: pytest.MonkeyPatch, serve: Serve | None = None
) -> AsyncIterator[tuple[str, Server, list[str]]]:
    """Run an endpoint and its proxy; yield its URL, its server and the heads the proxy saw."""
    seen: list[str] = []
    async with AsyncExitStack() as stack:
        tls = None if way == "plain" else context(folder)
        endpoint = await stack.enter_async_context(serving(serve or answers(), tls))
        if way in ("plain", "tls"):
            yield f"http{'' if way == 'plain' else 's'}://localhost:{endpoint.port}", endpoint, seen
            return
        proxy_tls = context(folder) if way == "tls in tls" else None
        proxy = await stack.enter_async_context(serving(tunnels(endpoint.port, seen), proxy_tls))
        scheme = "https" if proxy_tls else "http"
        monkeypatch.setenv("https_proxy", f"{scheme}://me:p%40ss@localhost:{proxy.port}")
        yield "https://api.test:4433", endpoint, seen
