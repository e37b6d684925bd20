"""The simulated endpoint in a process of its own, and its admin routes as methods."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from os import _exit

import aiohttp
import msgspec
import uvloop

from nightmill_worker.simulator import SimulatorConfig, serve


class Totals(msgspec.Struct, frozen=True):
    """Calls the simulator has received and answered."""

    calls: int
    answered: int


class Stats(msgspec.Struct, frozen=True):
    """The simulator's /admin/stats: all calls since the last reset."""

    totals: Totals
    in_flight: int
    max_in_flight: int
    answered_per_s: float
    answered_more_than_once: int


class Endpoint:
    """A running simulator, used by the benchmark."""

    def __init__(self, url: str, client: aiohttp.ClientSession) -> None:
        """Take its base URL and an HTTP session."""
        self.url = url
        self._client = client

    async def prepare(self, latency_s: float) -> None:
        """Set the time of a call to `latency_s` seconds, and reset the counts."""
        await self._client.post(f"{self.url}/admin/config", json={"latency_s": latency_s})
        await self._client.post(f"{self.url}/admin/reset")

    async def configure(self, **changes: object) -> None:
        """Change the simulator's settings from now on."""
        async with self._client.post(f"{self.url}/admin/config", json=changes) as response:
            response.raise_for_status()

    async def ask(self, path: str) -> bytes:
        """Return the body of an admin route's answer."""
        async with self._client.get(f"{self.url}{path}") as response:
            return await response.read()

    async def stats(self) -> Stats:
        """Return the counts at this moment."""
        async with self._client.get(f"{self.url}/admin/stats") as response:
            return msgspec.json.decode(await response.read(), type=Stats)


@asynccontextmanager
async def endpoint() -> AsyncIterator[Endpoint]:
    """Run a simulator process for the length of the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.endpoint",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    if process.stdin is None or process.stdout is None:  # cannot happen with PIPE
        raise RuntimeError
    try:
        port = int(await process.stdout.readline())
        async with aiohttp.ClientSession() as client:
            yield Endpoint(f"http://127.0.0.1:{port}", client)
    finally:
        process.stdin.close()
        await process.wait()


def main() -> None:
    """Serve on a free port, print the port, and end when standard input closes."""
    threading.Thread(target=lambda: (sys.stdin.read(), _exit(0)), daemon=True).start()
    uvloop.run(serve(SimulatorConfig(), ready=lambda port: print(port, flush=True)))


if __name__ == "__main__":
    main()
