"""One contender over one course: the same prompts, the same endpoint, everything measured."""

from __future__ import annotations

import asyncio
import time
from statistics import median

import msgspec

from benchmarks.crew import Crew, crew
from benchmarks.endpoint import Endpoint
from benchmarks.mill import settings_of
from benchmarks.server import Server, server
from benchmarks.watch import steady, watched
from benchmarks.work import BATCH, Spent, Work, request
from nightmill import Producer, keys

POLL_S = 0.02
LONGEST_S = 180.0
CHUNK = 10_000


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be done: `jobs` prompts of `size` bytes, `processes` x `slots`, each call's s."""

    processes: int
    slots: int
    latency_s: float
    jobs: int
    size: int = 300


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What a run took, a job; times in microseconds, memory in MB of the largest process."""

    jobs_per_s: float
    steady_jobs_per_s: float
    busy: float
    cpu_us: float
    commands: float
    server_us: float
    rss_mb: float


async def race(course: Course, contender: str, endpoint: Endpoint) -> Figures:
    """Run `contender` over `course` once. Raises RuntimeError unless it does all of its work."""
    async with server() as db:
        works = _works(course, contender, endpoint.url, db)
        if contender == "stock arq":
            await fill_arq(course, db)
        if contender == "nightmill":
            await fill_nightmill(works[0], course.jobs, db)
        await endpoint.prepare(course.latency_s)
        async with (
            crew(works, db.folder) as runners,
            asyncio.timeout(LONGEST_S),
        ):
            await runners.ready()
            if contender == "nightmill":
                await workers_there(course.processes, db)
            async with db, watched(endpoint) as samples:
                spent = await _run(contender, runners, course, db)
        stats = await endpoint.stats()
        if stats.totals.answered != course.jobs or stats.answered_more_than_once:
            raise RuntimeError(f"{contender}: {stats} for {course}")
        middle = steady(samples, course.processes * course.slots, course.jobs)
        return Figures(
            jobs_per_s=stats.answered_per_s,
            steady_jobs_per_s=middle.jobs_per_s,
            busy=middle.busy,
            cpu_us=sum(s.cpu_s for s in spent) / course.jobs * 1e6,
            commands=db.commands / course.jobs,
            server_us=db.cpu_s / course.jobs * 1e6,
            rss_mb=max(s.peak_rss_mb for s in spent),
        )


async def _run(contender: str, runners: Crew, course: Course, db: Server) -> list[Spent]:
    runners.start()
    if contender == "nightmill":
        await resume(db)
        while await succeeded(db) < course.jobs:
            await asyncio.sleep(POLL_S)
        runners.leave()
    return await runners.spent()


def _works(course: Course, contender: str, url: str, db: Server) -> list[Work]:
    """Share the course out: prompts for the loops, slots for everyone."""
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
