"""The HTTP gateway: creates, results, pollers and Messages, of one gateway process."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Final

import aiohttp

from benchmarks.endpoint import Endpoint
from benchmarks.processes import contenders
from benchmarks.queues import workers_ready
from benchmarks.server import Server, server
from benchmarks.table import Table
from benchmarks.work import HEADERS, Work, request

PATH: Final = "/v1/messages/batches"
REQUEST_BYTES: Final = 440
LATENCY_S: Final = 0.1
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
async def gateway(db: Server) -> AsyncIterator[Gateway]:
    """Run a gateway process over the server's Redis and folder."""
    where = {"NIGHTMILL_REDIS_URL": db.url, "NIGHTMILL_DATA_DIR": str(db.folder)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", SERVE), stdout=asyncio.subprocess.PIPE, env={**os.environ, **where}
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


async def run_gateway(simulator: Endpoint, *, quick: bool) -> Table:
    """Measure a large batch without a worker, then pollers and Messages with one."""
    async with server() as db, gateway(db) as door:
        rows = await _batch(door, 20_000 if quick else 100_000)
        await simulator.prepare(LATENCY_S)
        work = Work(
            contender="nightmill",
            slots=2_000,
            jobs=0,
            size=REQUEST_BYTES,
            base_url=simulator.url,
            redis_url=db.url,
            data_dir=str(db.folder),
        )
        async with contenders([work], db.folder) as workers:
            await workers.ready()
            workers.start()
            await workers_ready(db, 1)
            rows += await _messages(door, simulator, 30 if quick else 100)
            rows += await _waiting(door, simulator, 500 if quick else 2_000)
    return Table(
        title="gateway",
        what="One gateway process. A Message's time is that beside a direct call of "
        f"{LATENCY_S * 1000:.0f} ms, on an idle worker.",
        heads=("what", "measured", "bar"),
        rows=tuple(rows),
    )


async def _batch(door: Gateway, count: int) -> list[tuple[str, str, str]]:
    """Create a batch, poll for it, cancel it, and read its results."""
    params = request(1, REQUEST_BYTES)
    requests = [{"custom_id": f"c{number}", "params": params} for number in range(count)]
    body = json.dumps({"requests": requests}).encode()
    size = f"{count:,} requests, {len(body) / 1e6:.0f} MB"
    began = time.perf_counter()
    made = json.loads(await door.ask("POST", PATH, body))
    took, rss = time.perf_counter() - began, door.rss_mb
    one = f"{PATH}/{made['id']}"
    pollers = await _pollers(door, one, 500)
    await door.ask("POST", f"{one}/cancel")
    while json.loads(await door.ask("GET", one))["processing_status"] != "ended":  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    began = time.perf_counter()
    lines = (await door.ask("GET", f"{one}/results")).count(b"\n")
    rate = lines / (time.perf_counter() - began)
    return [
        (f"create of {size}, upload included", f"{took:.1f} s", "5 s"),
        ("memory after it", f"{rss:.0f} MB", "250 MB"),
        ("500 pollers, each once a second, p99", f"{pollers:.0f} ms", "200 ms"),
        ("results", f"{rate:,.0f} lines/s", "20,000 lines/s"),
    ]


async def _pollers(door: Gateway, path: str, count: int) -> float:
    """Return the 99th percentile of the time of a poll, ms."""
    took: list[float] = []

    async def poll(number: int) -> None:
        await asyncio.sleep(number / count)
        for _ in range(5):
            began = time.perf_counter()
            await door.ask("GET", path)
            took.append(time.perf_counter() - began)
            await asyncio.sleep(1)

    await asyncio.gather(*map(poll, range(count)))
    return quantiles(took, n=100)[-1] * 1000


async def _messages(door: Gateway, simulator: Endpoint, count: int) -> list[tuple[str, str, str]]:
    """Send Messages one at a time, by the gateway and directly in turns."""
    direct = Gateway(simulator.url, os.getpid(), door.client)
    took: dict[Gateway, list[float]] = {direct: [], door: []}
    for number in range(count):
        body = json.dumps(request(number, REQUEST_BYTES)).encode()
        for to, times in took.items():
            began = time.perf_counter()
            await to.ask("POST", "/v1/messages", body)
            times.append(time.perf_counter() - began)
    added = (median(took[door]) - median(took[direct])) * 1000
    return [("a Message, added at the median", f"{added:.1f} ms", "15 ms")]


async def _waiting(door: Gateway, simulator: Endpoint, count: int) -> list[tuple[str, str, str]]:
    """Let many clients wait at once, for calls that take long."""
    await simulator.configure(latency_s=10)
    bodies = [json.dumps(request(number, REQUEST_BYTES)).encode() for number in range(count)]
    waiting = asyncio.gather(*(door.ask("POST", "/v1/messages", body) for body in bodies))
    highest = 0.0
    while not waiting.done():
        highest = max(highest, door.rss_mb)
        await asyncio.wait([waiting], timeout=0.5)
    answers = await waiting
    return [(f"{len(answers):,} clients that wait, memory", f"{highest:.0f} MB", "250 MB")]
