"""Latency: from one enqueue on an idle fleet until the endpoint has the call."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from statistics import median, quantiles
from typing import Final

from arq import create_pool
from arq.connections import RedisSettings

from benchmarks.processes import contenders
from benchmarks.producers import settings_of
from benchmarks.queues import workers_ready
from benchmarks.server import Server, server
from benchmarks.table import Table
from benchmarks.work import Work, request
from nightmill import Producer
from nightmill_worker.simulator import Simulator

PROCESSES: Final = 2
WARM_UP: Final = 5
PAUSE_S: Final = (0.03, 0.13)
"""Shortest and longest pause between two probes, seconds. It is random, so that probes do not fall
into step with the polling of a worker."""
Send = Callable[[dict[str, object]], Awaitable[object]]


async def run_latency(*, quick: bool) -> Table:
    """Probe nightmill often, and arq less often: an idle arq worker looks every 0.5 s."""
    found = {
        "nightmill": await _probe("nightmill", 50 if quick else 200),
        "stock arq": await _probe("stock arq", 8 if quick else 20),
    }
    return Table(
        title="latency",
        what=f"One enqueue at a time on {PROCESSES} idle workers, until the endpoint has the call.",
        heads=("contender", "probes", "median ms", "p95 ms"),
        rows=tuple(
            (contender, str(len(ms)), f"{median(ms):.1f}", f"{quantiles(ms, n=20)[-1]:.1f}")
            for contender, ms in found.items()
        ),
    )


async def _probe(contender: str, probes: int) -> list[float]:
    """Return how long each probe took, ms. Endpoint and producer run in this process."""
    chance = random.Random(1)  # noqa: S311 - for pauses, not for a secret
    async with server() as db, Simulator() as simulator:
        work = Work(
            contender=contender,
            slots=100,
            jobs=0,
            size=300,
            base_url=simulator.url,
            redis_url=db.url,
            data_dir=str(db.folder),
        )
        async with contenders([work] * PROCESSES, db.folder) as workers:
            await workers.ready()
            workers.start()
            if contender == "nightmill":
                await workers_ready(db, PROCESSES)
            async with _sender(contender, db, work) as send:
                took = [
                    await _once(simulator, send, number, chance.uniform(*PAUSE_S))
                    for number in range(WARM_UP + probes)
                ]
    return took[WARM_UP:]


@asynccontextmanager
async def _sender(contender: str, db: Server, work: Work) -> AsyncIterator[Send]:
    if contender == "nightmill":
        async with Producer(settings=settings_of(work)) as producer:
            yield producer.enqueue
    else:
        pool = await create_pool(RedisSettings.from_dsn(db.url))
        yield lambda params: pool.enqueue_job("call", params)
        await pool.aclose()


async def _once(simulator: Simulator, send: Send, number: int, pause_s: float) -> float:
    await asyncio.sleep(pause_s)
    began = time.perf_counter()
    arrival = asyncio.create_task(_arrival(simulator, number + 1))
    await send(request(number, 300))
    return (await arrival - began) * 1000


async def _arrival(simulator: Simulator, calls: int) -> float:
    """Wait until the simulator has `calls` calls; return the time."""
    await simulator.until(lambda: simulator.ledger.totals.calls >= calls)
    return time.perf_counter()
