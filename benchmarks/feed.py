"""Feeding a huge file: jobs a second from the check to Redis, and memory on both sides."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.processes import contenders
from benchmarks.producers import SOURCE
from benchmarks.server import Server, server
from benchmarks.table import Table
from benchmarks.work import BATCH, Spent, Work, request
from nightmill.queue import keys

SIZES: Final = {False: {2000: 1_000_000, 100: 10_000_000}, True: {2000: 100_000, 100: 300_000}}
"""Whether it is a quick run -> bytes of one request -> number of jobs."""

LINES_AT_ONCE: Final = 10_000
FULL: Final = 49_000
"""Jobs in Redis from which on the window counts as full."""
REST_S: Final = 0.01
"""Wait between two looks at the queue, seconds."""
MB: Final = 1 << 20

# Finish the first ARGV[1] jobs of the queue KEYS[1] as workers would, without calls. KEYS[2] is the
# batch's hash, ARGV[2] the prefix of the payloads' keys.
FINISH: Final = """
local taken = redis.call('ZPOPMIN', KEYS[1], ARGV[1])
for i = 1, #taken, 2 do redis.call('DEL', ARGV[2] .. taken[i]) end
redis.call('HINCRBY', KEYS[2], 'succeeded', #taken / 2)
return #taken / 2
"""


async def run_feed(*, quick: bool) -> Table:
    """Check and feed a file of each size, while a script takes jobs out as workers would."""
    rows = [await measure_feed(jobs, size) for size, jobs in SIZES[quick].items()]
    return Table(
        title="feed",
        what="One process checks all of a JSON Lines file, then feeds it through the window of "
        "50,000 jobs. Once the window was full, a script takes jobs out as workers would. "
        "Redis MB is a peak.",
        heads=(
            *("B a job", "jobs", "check jobs/s", "feed jobs/s", "both jobs/s"),
            *("feeder CPU us/job", "server CPU us/job", "feeder RSS MB", "Redis MB"),
        ),
        rows=tuple(rows),
    )


async def measure_feed(jobs: int, size: int) -> tuple[str, ...]:
    """Return the row for a file of `jobs` jobs, each a request of `size` bytes."""
    async with server() as db:
        _write(db.folder / SOURCE, jobs, size)
        work = Work(
            contender="nightmill feed",
            slots=1,
            jobs=jobs,
            size=size,
            redis_url=db.url,
            data_dir=str(db.folder),
        )
        async with contenders([work], db.folder) as feeders:
            await feeders.ready()
            async with db:
                feeders.start()
                finishing = asyncio.create_task(_finish(db))
                (spent,) = await feeders.spent()
                finishing.cancel()
                await asyncio.wait([finishing])
        peak = (await db.redis.info("memory"))["used_memory_peak"] / MB
        return _row(jobs, size, spent, db.cpu_s, peak)


async def _finish(db: Server) -> None:
    """Once the window was full, take jobs out as fast as they come in, 1,000 at a time."""
    queue = keys.batch_queue(BATCH, str(request(0, 1000)["model"]))
    finish = db.redis.register_script(FINISH)
    while await db.redis.zcard(queue) < FULL:  # noqa: ASYNC110 - another process fills it
        await asyncio.sleep(REST_S)
    while True:
        if not await finish(keys=[queue, keys.BATCH + BATCH], args=[1000, keys.PAYLOAD]):
            await asyncio.sleep(REST_S)


def _row(jobs: int, size: int, spent: Spent, server_s: float, peak: float) -> tuple[str, ...]:
    fed_s = spent.wall_s - spent.checked_s
    speeds = (jobs / took for took in (spent.checked_s, fed_s, spent.wall_s))
    cpu = (spent.cpu_s / jobs * 1e6, server_s / jobs * 1e6)
    figures = (*speeds, *cpu, spent.peak_rss_mb, peak)
    return (f"{size:,}", f"{jobs:,}", *(f"{figure:,.0f}" for figure in figures))


def _write(path: Path, jobs: int, size: int) -> None:
    with path.open("wb") as file:
        for first in range(0, jobs, LINES_AT_ONCE):
            file.write(b"".join(_lines(first, min(first + LINES_AT_ONCE, jobs), size)))


def _lines(first: int, end: int, size: int) -> Iterator[bytes]:
    for number in range(first, end):
        params = request(number, size)
        yield msgspec.json.encode({"custom_id": f"line-{number}", "params": params}) + b"\n"
