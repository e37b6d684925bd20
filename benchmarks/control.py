"""How soon a command takes effect: from `pause` or `cancel` to the last call that still began."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from benchmarks.endpoint import Endpoint
from benchmarks.processes import contenders
from benchmarks.queues import fill_nightmill, nightmill_work, resume, until, workers_ready
from benchmarks.server import Server, server
from benchmarks.table import Table
from benchmarks.work import BATCH
from nightmill import Producer
from nightmill.queue.batches import Batches
from nightmill.records.counts import Counts

WORKERS: Final = 4
SLOTS: Final = 100
LATENCY_S: Final = 0.5
STILL_S: Final = 2.0
"""Without a new call for so long, the command has taken effect; seconds."""
BAR_S: Final = 1.0
"""Aim for `pause` and `cancel`, seconds."""
SMALL: Final = "small"
SMALL_BAR_S: Final = 2.0
"""Aim for the first call of a small batch behind a large one, seconds."""


async def run_control(endpoint: Endpoint, *, quick: bool) -> Table:
    """Pause and cancel a running batch, and start a small batch behind it."""
    await endpoint.prepare(LATENCY_S)
    jobs = 20_000 if quick else 200_000

    async def cancelled(batches: Batches) -> bool:
        return (await batches.counts(BATCH)).drained

    pause = await _measured(endpoint, jobs, lambda batches: batches.pause(BATCH, "bench"))
    cancel = await _measured(endpoint, jobs, lambda batches: batches.cancel(BATCH), cancelled)
    first_s = await _small_behind(endpoint, jobs)
    return Table(
        title="control",
        what=f"{jobs:,} jobs queued, {WORKERS} workers x {SLOTS} slots, calls of {LATENCY_S:g} s.",
        heads=("command", "holds after s", "bar s", "state at once", "rows written after s"),
        rows=(
            ("pause", f"{pause[0]:.2f}", f"{BAR_S:g}", pause[1], "-"),
            ("cancel", f"{cancel[0]:.2f}", f"{BAR_S:g}", cancel[1], f"{cancel[2]:.1f}"),
            ("enqueue 10 behind", f"{first_s:.2f}", f"{SMALL_BAR_S:g}", "-", "-"),
        ),
    )


async def _measured(
    endpoint: Endpoint,
    jobs: int,
    command: Callable[[Batches], Awaitable[None]],
    ended: Callable[[Batches], Awaitable[bool]] | None = None,
) -> tuple[float, str, float]:
    """Return seconds to the last new call, the state read at once, and seconds to the last row."""
    async with server() as db:
        batches = Batches(db.redis)
        async with _workers(endpoint, db, jobs):
            began = last = time.perf_counter()
            await command(batches)
            counts: Counts = await batches.counts(BATCH)
            calls = (await endpoint.stats()).totals.calls
            while (now := time.perf_counter()) - last < STILL_S:
                latest = (await endpoint.stats()).totals.calls
                if latest != calls:
                    calls, last = latest, now
                await asyncio.sleep(0.01)
            if ended is not None:
                await until(lambda: ended(batches))
            return last - began, counts.state, time.perf_counter() - began


async def _small_behind(endpoint: Endpoint, jobs: int) -> float:
    """Return seconds from enqueueing ten jobs to the start of the first of them."""
    async with server() as db:
        batches = Batches(db.redis)
        async with _workers(endpoint, db, jobs), Producer(db.url) as producer:
            items = [{"messages": [{"role": "user", "content": str(n)}]} for n in range(10)]
            began = time.perf_counter()
            await producer.enqueue_many(items, batch=SMALL)

            async def started() -> bool:
                counts = await batches.counts(SMALL)
                return bool(counts.in_flight or counts.succeeded)

            await until(started)
            return time.perf_counter() - began


@asynccontextmanager
async def _workers(endpoint: Endpoint, db: Server, jobs: int) -> AsyncIterator[None]:
    """Run workers on a batch of `jobs`; when the block begins, all of their slots are busy."""
    work = nightmill_work(endpoint.url, db, SLOTS)
    await fill_nightmill(db, work, jobs)
    async with contenders([work] * WORKERS, db.folder) as workers:
        await workers.ready()
        await workers_ready(db, WORKERS)
        workers.start()
        await resume(db)

        async def busy() -> bool:
            return (await endpoint.stats()).in_flight >= WORKERS * SLOTS * 0.9

        await until(busy)
        yield
