"""Faults of what a worker needs: Redis out of reach, the store locked, the endpoint in a storm."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nightmill_worker.lane.breaker import FAILURES
from tests.chaos.mill import SLOTS, milling
from tests.chaos.proxy import proxied
from tests.chaos.report import Report, judge
from tests.rig import until

if TYPE_CHECKING:
    from tests.chaos.mill import Mill

SHORT_LEASE_S: Final = 1.0
WASTED: Final = 60
"""Calls that an outage may cost beside those in flight at its onset."""


async def cut_off(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Cut one worker off from Redis for two leases: it goes on calling, others take over."""
    async with milling(folder, latency_s=0.8, lease_s=SHORT_LEASE_S) as mill:
        path = folder / "p.sock"
        async with proxied(mill.socket, path) as proxy:
            await mill.feed(range(60))
            await mill.start_workers(2)
            mill.start_worker(NIGHTMILL_REDIS_URL=f"unix://{path}")
            await until(lambda: _in_flight(mill, 20))
            proxy.cut()
            await asyncio.sleep(2 * SHORT_LEASE_S + 0.3)
            proxy.mend()
            await mill.wait_for_rows(60)
            return await judge(mill, "a worker cut off from Redis", 60, extra=SLOTS)


async def store_away(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Lock the store, restart a worker meanwhile: nothing is called twice, all is caught up."""
    jobs, away_s = 60 * scale, 6 * scale
    async with milling(folder, latency_s=0.3, lease_s=5) as mill:
        await mill.feed(range(jobs))
        await mill.start_workers(2)
        await until(lambda: _stored(mill, jobs // 10))
        with closing(sqlite3.connect(folder / "results.db", isolation_level=None)) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            await asyncio.sleep(away_s / 2)
            await mill.end(mill.workers[0])
            mill.start_worker()
            await asyncio.sleep(away_s / 2)
            lock.execute("ROLLBACK")
        back = time.monotonic()
        await mill.wait_for_rows(jobs, within=120)
        report = await judge(mill, f"the store away for {away_s} s", jobs, extra=0)
        report.recovery_s = time.monotonic() - back
        report.expect("caught up <= 30 s", kept=report.recovery_s <= 30)
        return report


async def storm(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Answer 529 for a while: the breaker opens, few calls are wasted, and all goes on after it."""
    jobs, storm_s = 150 * scale, 6 * scale
    async with milling(folder, latency_s=0.3) as mill:
        await mill.feed(range(jobs))
        await mill.start_workers(2)
        await until(lambda: _in_flight(mill, FAILURES))
        at_onset = await mill.in_flight()
        await mill.configure(down=529)
        await asyncio.sleep(storm_s)
        await mill.configure(down=None)
        back = time.monotonic()
        await until(lambda: _stored(mill, jobs // 2), within=60)
        report_at = time.monotonic() - back
        await mill.wait_for_rows(jobs, within=120)
        allowed = at_onset + WASTED
        report = await judge(mill, f"529s for {storm_s} s", jobs, extra=allowed)
        report.recovery_s = report_at
        return report


async def _in_flight(mill: Mill, count: int) -> bool:
    return await mill.in_flight() >= count


async def _stored(mill: Mill, count: int) -> bool:
    return await mill.rows() >= count
