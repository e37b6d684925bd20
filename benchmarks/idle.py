"""What an idle fleet costs: workers that wait for jobs."""

from __future__ import annotations

import asyncio
from typing import Final

from benchmarks.endpoint import Endpoint
from benchmarks.processes import contenders
from benchmarks.queues import nightmill_work, workers_ready
from benchmarks.server import server
from benchmarks.table import Table

WORKERS: Final = (1, 4)
SLOTS: Final = 250
SETTLE_S: Final = 3.0
"""Time for the first looks at the queue, seconds."""
SECONDS: Final = {True: 10.0, False: 60.0}


async def run_idle(endpoint: Endpoint, *, quick: bool) -> Table:
    """Let workers wait without a job, and count what they and the server use."""
    rows = [await _measure(endpoint, workers, SECONDS[quick]) for workers in WORKERS]
    return Table(
        title="idle",
        what=f"Workers without jobs for {SECONDS[quick]:g} s, 250 slots each.",
        heads=("workers", "CPU %", "server CPU %", "commands/s", "scripts/s"),
        rows=tuple(rows),
    )


async def _measure(endpoint: Endpoint, workers: int, seconds: float) -> tuple[str, ...]:
    await endpoint.prepare(0.25)
    async with server() as db:
        works = [nightmill_work(endpoint.url, db, SLOTS) for _ in range(workers)]
        async with contenders(works, db.folder) as fleet:
            await fleet.ready()
            await workers_ready(db, workers)
            await asyncio.sleep(SETTLE_S)
            fleet.start()
            async with db:
                await asyncio.sleep(seconds)
            stats = await db.redis.info("commandstats")
            fleet.stop()
            spent = await fleet.spent()
    cpu_s, wall_s = sum(each.cpu_s for each in spent), max(each.wall_s for each in spent)
    scripts = sum(n["calls"] for name, n in stats.items() if name.startswith("cmdstat_eval"))
    return (
        f"{workers}",
        f"{100 * cpu_s / wall_s:.2f}",
        f"{100 * db.cpu_s / seconds:.2f}",
        f"{db.commands / seconds:.1f}",
        f"{scripts / seconds:.1f}",
    )
