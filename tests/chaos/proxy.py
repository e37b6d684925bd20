"""A proxy between a worker and Redis that can swallow everything, as a broken network does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

CHUNK = 1 << 16


class Proxy:
    """Passes bytes between unix sockets, both ways, while it is not cut."""

    def __init__(self, target: Path) -> None:
        """Take the socket that is really meant."""
        self._target = target
        self._whole = asyncio.Event()
        self._whole.set()
        self._pumps: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Swallow nothing and pass nothing: both ends wait."""
        self._whole.clear()

    def mend(self) -> None:
        """Pass on what was held up, and all that follows."""
        self._whole.set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect one client through."""
        await self._whole.wait()
        there, back = await asyncio.open_unix_connection(self._target)
        for source, sink in ((reader, back), (there, writer)):
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                while data := await source.read(CHUNK):
                    await self._whole.wait()
                    sink.write(data)
                    await sink.drain()
        finally:
            sink.close()

    async def close(self) -> None:
        """End every connection."""
        for pump in list(self._pumps):
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        await asyncio.sleep(0)  # the transports close with the loop's next turn


@asynccontextmanager
async def proxied(target: Path, path: Path) -> AsyncIterator[Proxy]:
    """Listen at `path` for connections to `target`."""
    proxy = Proxy(target)
    server = await asyncio.start_unix_server(proxy.serve, path)
    try:
        yield proxy
    finally:
        server.close()
        proxy.mend()
        await proxy.close()
