"""A proxy before a server that can swallow everything, as a broken network does."""

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
    """Passes bytes both ways while it is not cut."""

    def __init__(self, target: Callable[[], Awaitable[Pair]]) -> None:
        """Take what connects to the server that is really meant."""
        self._target = target
        self._whole = asyncio.Event()
        self._whole.set()
        self._lost = False
        self._pumps: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Swallow nothing and pass nothing: both ends wait."""
        self._whole.clear()

    def mend(self) -> None:
        """Pass on what was held up, and all that follows."""
        self._lost = False
        self._whole.set()

    def strand(self) -> None:
        """Lose all connections, and those made before `mend`: nobody will ever tell their ends."""
        self.cut()
        self._lost = True
        for pump in self._pumps:
            pump.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect one client through."""
        self._ends.add(writer)
        if self._lost:
            return
        await self._whole.wait()
        there, back = await self._target()
        self._ends.add(back)
        for source, committer in ((reader, back), (there, writer)):
            pump = asyncio.create_task(self._pump(source, committer))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, committer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(CHUNK):
                await self._whole.wait()
                committer.write(data)
                await committer.drain()
        committer.close()  # not when it is cancelled: a stranded end hears nothing
        self._ends.discard(committer)

    async def close(self) -> None:
        """End every connection."""
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        for end in self._ends:
            end.close()
        await asyncio.sleep(0)  # the transports close with the loop's next turn


@asynccontextmanager
async def proxied(target: Path, path: Path) -> AsyncIterator[Proxy]:
    """Listen at the unix socket `path` for connections to another."""
    proxy = Proxy(lambda: asyncio.open_unix_connection(target))
    server = await asyncio.start_unix_server(proxy.serve, path)
    async with _closing(server, proxy):
        yield proxy


@asynccontextmanager
async def linked(url: str) -> AsyncIterator[tuple[Proxy, str]]:
    """Listen on loopback for connections to an http:// URL; yields the proxy and its own URL."""
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
        proxy.mend()
        await proxy.close()
