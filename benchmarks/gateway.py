"""The HTTP gateway: creates, results, pollers and Messages, of one gateway process."""

from __future__ import annotations

import asyncio
import json
import os
import time
from statistics import median, quantiles
from typing import Final

from benchmarks.endpoint import Endpoint
from benchmarks.gateway_process import PATH, Gateway, gateway
from benchmarks.gateway_reads import reads
from benchmarks.processes import contenders
from benchmarks.queues import workers_ready
from benchmarks.server import server
from benchmarks.table import Table
from benchmarks.work import Work, request

REQUEST_BYTES: Final = 440
LATENCY_S: Final = 0.1


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
    async with server() as db:
        rows += await reads(db, 20_000 if quick else 100_000)
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
