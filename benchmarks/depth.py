"""What a long queue costs: CPU for each job with many jobs queued, and with few."""

from __future__ import annotations

import asyncio
from statistics import median
from typing import Final

from benchmarks.endpoint import Endpoint
from benchmarks.processes import contenders
from benchmarks.queues import (
    fill_nightmill,
    nightmill_work,
    pause,
    resume,
    succeeded,
    until,
    until_succeeded,
    workers_ready,
)
from benchmarks.server import Server, server
from benchmarks.table import Table, times

SHALLOW: Final = 10_000
DEEP: Final = {True: 100_000, False: 1_000_000}
ROUNDS: Final = 3
JOBS: Final = 5000
SLOTS: Final = 250
LATENCY_S: Final = 0.25
Cost = tuple[float, float, float]
"""Worker CPU and server CPU, both in us for each job, and Redis commands for each job."""


async def run_depth(endpoint: Endpoint, *, quick: bool) -> Table:
    """Run JOBS jobs from the head of a short queue and of a long one, in turns."""
    await endpoint.prepare(LATENCY_S)
    shallow: list[Cost] = []
    deep: list[Cost] = []
    depth = DEEP[quick]
    async with server() as full:
        await fill_nightmill(full, nightmill_work(endpoint.url, full, SLOTS), depth)
        for _ in range(1 if quick else ROUNDS):
            deep.append(await _run_jobs(endpoint, full))
            async with server() as short:
                await fill_nightmill(short, nightmill_work(endpoint.url, short, SLOTS), SHALLOW)
                shallow.append(await _run_jobs(endpoint, short))
    few, many = (tuple(map(median, zip(*c, strict=True))) for c in (shallow, deep))
    return Table(
        title="depth",
        what=f"The first {JOBS:,} jobs of a queue, 1 x {SLOTS} slots, calls of {LATENCY_S:g} s.",
        heads=("queued", "CPU us/job", "x few", "server CPU us/job", "x few", "commands/job"),
        rows=tuple(
            (
                f"{queued:,}",
                f"{cost[0]:,.0f}",
                times(cost[0], few[0]),
                f"{cost[1]:,.0f}",
                times(cost[1], few[1]),
                f"{cost[2]:.1f}",
            )
            for queued, cost in ((SHALLOW, few), (depth, many))
        ),
    )


async def _run_jobs(endpoint: Endpoint, db: Server) -> Cost:
    """Run about JOBS jobs, stop, and return what one job cost."""
    await until(db.quiet)
    before = await succeeded(db)
    async with contenders([nightmill_work(endpoint.url, db, SLOTS)], db.folder) as workers:
        await workers.ready()
        await workers_ready(db, 1)
        async with db, asyncio.TaskGroup() as group:
            workers.start()
            reports = group.create_task(workers.spent())
            await resume(db)
            await until_succeeded(db, before + JOBS)
            workers.stop()
    await pause(db)
    (spent,) = reports.result()
    jobs = await succeeded(db) - before
    return spent.cpu_s / jobs * 1e6, db.cpu_s / jobs * 1e6, db.commands / jobs
