"""A proxy in front of a server that can stop forwarding, as a broken network does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

CHUNK = 1 << 16
Pair: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Proxy:
    """Forwards bytes both ways, until it is held or its connections are lost."""

    def __init__(self, target: Callable[[], Awaitable[Pair]]) -> None:
        """Take a function that connects to the real server."""
        self._target = target
        self._forwarding = asyncio.Event()
        self._forwarding.set()
        self._lost = False
        self._closed = False
        self._pumps: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.StreamWriter] = set()
        self._servers: set[asyncio.StreamWriter] = set()

    def hold(self) -> None:
        """Stop forwarding. Connections stay open and no byte is lost."""
        self._forwarding.clear()

    def restore(self) -> None:
        """Forward the held bytes and all that follow; the server closes its lost connections."""
        if self._lost:
            for end in self._servers:
                end.close()
        self._lost = False
        self._forwarding.set()

    def lose(self) -> None:
        """Lose all connections, and those made before `restore`. No end gets a FIN or RST."""
        self.hold()
        self._lost = True
        for pump in self._pumps:
            pump.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one client's connection."""
        self._ends.add(writer)
        if self._lost:
            return
        await self._forwarding.wait()
        try:
            there, back = await self._target()
        except OSError:
            writer.transport.abort()
            return
        if self._closed:  # meanwhile
            writer.transport.abort()
            back.transport.abort()
            return
        self._ends.add(back)
        self._servers.add(back)
        for source, target in ((reader, back), (there, writer)):
            pump = asyncio.create_task(self._pump(source, target))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(CHUNK):
                await self._forwarding.wait()
                target.write(data)
                await target.drain()
        target.close()  # not when cancelled: the end of a lost connection gets no FIN
        self._ends.discard(target)
        self._servers.discard(target)

    async def close(self) -> None:
        """Close every connection."""
        self._closed = True
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        for end in self._ends:
            end.transport.abort()  # a peer that was killed takes no more bytes
        for end in self._ends:
            with suppress(OSError):
                await end.wait_closed()


@asynccontextmanager
async def proxied(target: Path, path: Path) -> AsyncIterator[Proxy]:
    """Listen at the unix socket `path` and forward to the unix socket `target`."""
    proxy = Proxy(lambda: asyncio.open_unix_connection(target))
    server = await asyncio.start_unix_server(proxy.serve, path)
    async with _closing(server, proxy):
        yield proxy


@asynccontextmanager
async def linked(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """Listen on loopback and forward to an http:// URL; yield the proxy and its URL."""
    parts = urlsplit(url)
    proxy = Proxy(lambda: asyncio.open_connection(parts.hostname, parts.port))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    async with _closing(server, proxy):
        yield proxy, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def _closing(server: asyncio.Server, proxy: Proxy) -> AsyncIterator[None]:
    try:
        yield
    finally:
        server.close()
        proxy.restore()
        await proxy.close()
