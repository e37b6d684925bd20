"""Runs one contender on one workload and measures it: the same prompts, the same endpoint."""

from __future__ import annotations

import asyncio
from statistics import median

import msgspec

from benchmarks.endpoint import Endpoint
from benchmarks.occupancy import Sample, sampled, steady
from benchmarks.processes import Contenders, contenders
from benchmarks.queues import (
    fill_arq,
    fill_nightmill,
    resume,
    until,
    until_succeeded,
    workers_ready,
)
from benchmarks.server import Server, server
from benchmarks.work import Spent, Work

LONGEST_S = 180.0
"""Longest run of one contender, seconds."""


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """What a contender must do."""

    processes: int
    slots: int
    """Calls in flight of one process at most."""
    latency_s: float
    """Time of one call, seconds."""
    jobs: int
    size: int = 300
    """Bytes of one request."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What a run took."""

    jobs_per_s: float
    steady_jobs_per_s: float
    busy: float
    """See `occupancy.Steady`."""
    full: float
    """1 or 0; see `occupancy.Steady`."""
    most_in_flight: float
    cpu_us: float
    """CPU of all contender processes for each job, us."""
    commands: float
    """Redis commands for each job."""
    server_us: float
    """CPU of the server for each job, us."""
    rss_mb: float
    """Peak memory of the largest process, MB."""


async def measure(workload: Workload, contender: str, endpoint: Endpoint) -> Figures:
    """Run `contender` on `workload` once. Raises RuntimeError unless it does all of its work."""
    async with server() as db, asyncio.timeout(LONGEST_S):
        works = shares(workload, contender, endpoint.url, db)
        if contender == "stock arq":
            await fill_arq(db, workload.jobs, workload.size)
        if contender == "nightmill":
            await fill_nightmill(db, works[0], workload.jobs)
        await endpoint.prepare(workload.latency_s)
        async with contenders(works, db.folder) as processes:
            await processes.ready()
            if contender == "nightmill":
                await workers_ready(db, workload.processes)
            async with sampled(endpoint) as samples, db:
                spent = await _run(contender, processes, samples, workload.jobs, db)
        stats = await endpoint.stats()
        if stats.totals.answered != workload.jobs or stats.answered_more_than_once:
            raise RuntimeError(f"{contender} did not do its work: {stats}")
        middle = steady(samples, workload.processes * workload.slots, workload.jobs)
        return Figures(
            jobs_per_s=stats.answered_per_s,
            steady_jobs_per_s=middle.jobs_per_s,
            busy=middle.busy,
            full=float(middle.full),
            most_in_flight=stats.max_in_flight,
            cpu_us=sum(s.cpu_s for s in spent) / workload.jobs * 1e6,
            commands=db.commands / workload.jobs,
            server_us=db.cpu_s / workload.jobs * 1e6,
            rss_mb=max(s.peak_rss_mb for s in spent),
        )


def medians(runs: list[Figures]) -> Figures:
    """Return the median of each figure."""
    columns = {name: [getattr(run, name) for run in runs] for name in Figures.__struct_fields__}
    return Figures(**{name: median(column) for name, column in columns.items()})


def shares(workload: Workload, contender: str, url: str, db: Server) -> list[Work]:
    """Divide a workload: every process gets its slots, and its prompts if it has no queue."""
    share, rest = divmod(workload.jobs, workload.processes)
    if rest:
        raise ValueError(f"{workload}: jobs must be a multiple of processes")
    return [
        Work(
            contender=contender,
            slots=workload.slots,
            jobs=share,
            first=number * share,
            size=workload.size,
            base_url=url,
            redis_url=db.url,
            data_dir=str(db.folder),
        )
        for number in range(workload.processes)
    ]


async def _run(
    contender: str, processes: Contenders, samples: list[Sample], jobs: int, db: Server
) -> list[Spent]:
    """Send the start signal, wait until all jobs are done, and return what they took."""

    async def answered() -> bool:
        return bool(samples) and samples[-1].stats.totals.answered >= jobs

    processes.start()
    async with asyncio.TaskGroup() as group:
        reports = group.create_task(processes.spent())  # fails at once when a process dies
        if contender == "nightmill":
            await resume(db)
            await until(answered)  # asking the server earlier would add counted commands
            await until_succeeded(db, jobs)
            processes.stop()
    return reports.result()
