"""A gateway process, and one client of it."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp

from benchmarks.server import Server
from benchmarks.work import HEADERS

PATH: Final = "/v1/messages/batches"
LONG: Final = aiohttp.ClientTimeout(total=600)
SERVE: Final = "from nightmill_gateway.cli.serve import serve; serve(port=0, insecure=True)"
PAGE_KB: Final = os.sysconf("SC_PAGE_SIZE") // 1024


class Gateway:
    """A running gateway process, and one client of it."""

    def __init__(self, url: str, pid: int, client: aiohttp.ClientSession) -> None:
        """Take its URL, its process, and an HTTP session."""
        self.url, self._pid, self.client = url, pid, client

    @property
    def rss_mb(self) -> float:
        """The memory that the process has now."""
        pages = int(Path(f"/proc/{self._pid}/statm").read_text().split()[1])
        return pages * PAGE_KB / 1024

    async def ask(self, method: str, path: str, data: bytes | None = None) -> bytes:
        """Send a request and return the body of its answer."""
        body = None if data is None else io.BytesIO(data)
        url = self.url + path
        async with self.client.request(method, url, data=body, headers=HEADERS) as answer:
            answer.raise_for_status()
            return await answer.read()


@asynccontextmanager
async def gateway(db: Server, **more: str) -> AsyncIterator[Gateway]:
    """Run a gateway process over the server's Redis and folder, with `more` variables."""
    where = {"NIGHTMILL_REDIS_URL": db.url, "NIGHTMILL_DATA_DIR": str(db.folder)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVE),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **where, **more},
    )
    try:
        line = await process.stdout.readline() if process.stdout else b""
        url = next(word for word in line.decode().split() if word.startswith("http"))
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=LONG) as client:
            yield Gateway(url, process.pid, client)
    finally:
        process.terminate()
        await process.wait()
