"""Faults of the store: locked by somebody else, its disk full, and the spool's disk with it."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.chaos.mill import ENTRIES, GRACE_S, milling
from tests.chaos.report import Report, judge
from tests.postgres import postgres
from tests.rig import until

if TYPE_CHECKING:
    from tests.chaos.mill import Mill

CAUGHT_UP_S: Final = 30.0
SUPERVISED: Final = ("-m", "nightmill", "worker", "--processes", "2")
GROWTH_MB: Final = 32.0
"""What a worker may grow by while the store is away."""


async def store_away(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Lock the store, restart a worker meanwhile: nothing is called twice, all is caught up."""
    jobs, away_s = 60 * scale, 6 * scale
    async with milling(folder, latency_s=0.3, lease_s=5) as mill:
        await mill.feed(range(jobs))
        await mill.start_workers(2)
        await until(lambda: mill.has_rows(jobs // 10))
        with closing(sqlite3.connect(folder / "results.db", isolation_level=None)) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            before = resident_mb(mill)
            await asyncio.sleep(away_s / 2)
            called = (await mill.stats())["totals"]["calls"]
            await mill.end(mill.workers[0])
            mill.start_worker()
            await asyncio.sleep(away_s / 2)
            grown = resident_mb(mill) - before
            still = (await mill.stats())["totals"]["calls"]
            lock.execute("ROLLBACK")
        back = time.monotonic()
        await mill.wait_for_rows(jobs, within=120)
        report = await judge(mill, f"the store away for {away_s} s", jobs, extra=0)
        report.recovery_s = time.monotonic() - back
        report.expect("caught up <= 30 s", kept=report.recovery_s <= CAUGHT_UP_S)
        report.expect(f"claims stop: {called} then {still} calls", kept=called == still)
        report.expect(f"memory bounded: {grown:.0f} MB more", kept=grown <= GROWTH_MB)
        return report


async def postgres_away(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Stop a PostgreSQL; end one worker meanwhile, kill the other: their answers outlive them."""
    jobs, away_s = 200 * scale, 6 * scale
    with postgres() as server:
        async with milling(folder, latency_s=0.4, store_url=server.url) as mill:
            await mill.feed(range(jobs))
            await mill.start_workers(2)
            await mill.wait_for_rows(jobs // 6)
            server.stop()
            called = await mill.quiet()
            first, second = mill.workers
            took = await mill.end(first)
            mill.kill(second)
            mill.start_worker(*SUPERVISED)  # whose workers end and start until the store is back
            await asyncio.sleep(away_s)
            still = (await mill.stats())["totals"]["calls"]
            server.start()
            back = time.monotonic()
            await mill.wait_for_rows(called)
            recovery_s = time.monotonic() - back
            await mill.wait_for_rows(jobs, within=120)
            report = await judge(mill, f"PostgreSQL away for {away_s} s", jobs, extra=0)
    report.recovery_s = recovery_s
    report.expect("caught up <= 30 s", kept=recovery_s <= CAUGHT_UP_S)
    report.expect(f"claims stop: {called} then {still} calls", kept=called == still < jobs)
    report.expect(f"exit <= grace + 2 s: {took:.1f}", kept=took <= GRACE_S + 2)
    report.expect("nothing is left in the spool", kept=not list((folder / "spool").glob("*")))
    return report


def resident_mb(mill: Mill) -> float:
    """Return the memory of the largest worker."""
    return max(map(resident_mb_of, (worker.pid for worker in mill.workers)))


def resident_mb_of(pid: int) -> float:
    """Return the memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


async def disk_full(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Leave the store no room; a worker is restarted meanwhile, and then there is room."""
    jobs = 120 * scale
    async with milling(folder, latency_s=0.3) as mill:
        full = await _fill_up(mill, jobs)
        called, gone = await mill.quiet(), await mill.missing(jobs)
        await mill.end(mill.workers[0])
        mill.start_worker(ENTRIES / "cramped.py", full)
        await asyncio.sleep(1.0 * scale)
        still = (await mill.stats())["totals"]["calls"]
        full.unlink()
        back = time.monotonic()
        await mill.wait_for_rows(jobs)
        report = await judge(mill, "the store's disk full", jobs, extra=0)
        report.recovery_s = time.monotonic() - back
        _expect_full(mill, report)
        report.expect(f"claims stop: {called} then {still} calls", kept=called == still < jobs)
        report.expect(f"nothing is gone without a row: {gone}", kept=not gone)
        return report


async def spool_full(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Leave neither the store nor the spool any room, and kill a worker: only its calls repeat."""
    jobs = 120 * scale
    (folder / "spool").write_text("in the way")
    async with milling(folder, latency_s=0.3) as mill:
        full = await _fill_up(mill, jobs)
        await mill.quiet()
        await until(lambda: mill.said("spool failed"))
        gone = await mill.missing(jobs)
        held = len(await mill.held_by(mill.workers[0]))
        mill.kill(mill.workers[0])
        mill.start_worker(ENTRIES / "cramped.py", full)
        (folder / "spool").unlink()
        full.unlink()
        back = time.monotonic()
        await mill.wait_for_rows(jobs)
        report = await judge(mill, "the store's and the spool's disk full", jobs, extra=held)
        report.recovery_s = time.monotonic() - back
        _expect_full(mill, report)
        report.expect(f"nothing is gone without a row: {gone}", kept=not gone)
        return report


async def _fill_up(mill: Mill, jobs: int) -> Path:
    """Work until some rows are stored, then take the store's room away; return the file to undo."""
    full = mill.folder / "full"
    await mill.feed(range(jobs))
    await mill.start_workers(2, ENTRIES / "cramped.py", full)
    await until(lambda: mill.has_rows(jobs // 10))
    full.touch()
    await until(lambda: mill.said("store away"))
    return full


def _expect_full(mill: Mill, report: Report) -> None:
    problem = mill.said("store away")[0]["problem"]
    report.expect(f"a clear error: {problem}", kept="its disk is full; free some" in problem)
