"""One contender over one course: the same prompts, the same endpoint, everything measured."""

from __future__ import annotations

import asyncio
from statistics import median

import msgspec

from benchmarks.crew import Crew, crew
from benchmarks.endpoint import Endpoint
from benchmarks.queues import (
    fill_arq,
    fill_nightmill,
    resume,
    until,
    until_succeeded,
    workers_there,
)
from benchmarks.server import Server, server
from benchmarks.watch import Sample, steady, watched
from benchmarks.work import Spent, Work

LONGEST_S = 180.0


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done: `jobs` prompts of `size` bytes; a call takes `latency_s`."""

    processes: int
    slots: int
    latency_s: float
    jobs: int
    size: int = 300


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What a run took, a job; times in microseconds, memory in MB of the largest process.

    `busy` and `full` (1 or 0) are those of `watch.Steady`.
    """

    jobs_per_s: float
    steady_jobs_per_s: float
    busy: float
    full: float
    most_in_flight: float
    cpu_us: float
    commands: float
    server_us: float
    rss_mb: float


async def race(course: Course, contender: str, endpoint: Endpoint) -> Figures:
    """Run `contender` over `course` once. Raises RuntimeError unless it does all of its work."""
    async with server() as db, asyncio.timeout(LONGEST_S):
        works = shares(course, contender, endpoint.url, db)
        if contender == "stock arq":
            await fill_arq(db, course.jobs, course.size)
        if contender == "nightmill":
            await fill_nightmill(db, works[0], course.jobs)
        await endpoint.prepare(course.latency_s)
        async with crew(works, db.folder) as runners:
            await runners.ready()
            if contender == "nightmill":
                await workers_there(db, course.processes)
            async with watched(endpoint) as samples, db:
                spent = await _run(contender, runners, samples, course.jobs, db)
        stats = await endpoint.stats()
        if stats.totals.answered != course.jobs or stats.answered_more_than_once:
            raise RuntimeError(f"{contender} did not do its work: {stats}")
        middle = steady(samples, course.processes * course.slots, course.jobs)
        return Figures(
            jobs_per_s=stats.answered_per_s,
            steady_jobs_per_s=middle.jobs_per_s,
            busy=middle.busy,
            full=float(middle.full),
            most_in_flight=stats.max_in_flight,
            cpu_us=sum(s.cpu_s for s in spent) / course.jobs * 1e6,
            commands=db.commands / course.jobs,
            server_us=db.cpu_s / course.jobs * 1e6,
            rss_mb=max(s.peak_rss_mb for s in spent),
        )


def medians(runs: list[Figures]) -> Figures:
    """Return the median of each figure."""
    columns = {name: [getattr(run, name) for run in runs] for name in Figures.__struct_fields__}
    return Figures(**{name: median(column) for name, column in columns.items()})


def shares(course: Course, contender: str, url: str, db: Server) -> list[Work]:
    """Share a course out to its processes: slots for all, prompts for those without a queue."""
    share, rest = divmod(course.jobs, course.processes)
    if rest:
        raise ValueError(f"{course}: jobs must be a multiple of processes")
    return [
        Work(
            contender=contender,
            slots=course.slots,
            jobs=share,
            first=number * share,
            size=course.size,
            base_url=url,
            redis_url=db.url,
            data_dir=str(db.folder),
        )
        for number in range(course.processes)
    ]


async def _run(
    contender: str, runners: Crew, samples: list[Sample], jobs: int, db: Server
) -> list[Spent]:
    """Give the start signal and return what the run took, once all of it is done."""

    async def answered() -> bool:
        return bool(samples) and samples[-1].stats.totals.answered >= jobs

    runners.start()
    async with asyncio.TaskGroup() as group:
        reports = group.create_task(runners.spent())  # fails at once when a process dies
        if contender == "nightmill":
            await resume(db)
            await until(answered)  # only then is the server asked: its commands are counted
            await until_succeeded(db, jobs)
            runners.leave()
    return reports.result()
