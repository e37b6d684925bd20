"""Faults of the store: locked by another process, its disk full, the spool's disk full too."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nightmill.store import ResultStore
from tests.chaos.fleet import ENTRIES, running_fleet
from tests.chaos.report import Report, judge
from tests.rig import until

if TYPE_CHECKING:
    from tests.chaos.fleet import Fleet

CAUGHT_UP_S: Final = 30.0
GROWTH_MB: Final = 32.0
"""Memory that a worker may gain while the store is away."""


async def store_away(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Lock the store and restart a worker meanwhile: no call is repeated, every row is stored."""
    jobs, away_s = 60 * scale, 4 if scale == 1 else 6 * scale
    async with running_fleet(folder, latency_s=0.3, lease_s=5) as fleet:
        await fleet.feed(range(jobs))
        await fleet.start_workers(2)
        await until(lambda: fleet.has_rows(jobs // 10))
        with closing(sqlite3.connect(folder / "results.db", isolation_level=None)) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            before = resident_mb(fleet)
            await asyncio.sleep(away_s / 2)
            called = (await fleet.stats())["totals"]["calls"]
            await fleet.end(fleet.workers[0])
            fleet.start_worker()
            await asyncio.sleep(away_s / 2)
            grown = resident_mb(fleet) - before
            still = (await fleet.stats())["totals"]["calls"]
            lock.execute("ROLLBACK")
        back = time.monotonic()
        await fleet.wait_for_rows(jobs, within=120)
        report = await judge(fleet, f"the store away for {away_s} s", jobs, extra=0)
        report.recovery_s = time.monotonic() - back
        report.expect("all rows stored <= 30 s after", kept=report.recovery_s <= CAUGHT_UP_S)
        report.expect(f"claims stop: {called} then {still} calls", kept=called == still)
        report.expect(f"memory grows <= {GROWTH_MB:.0f} MB: {grown:.0f}", kept=grown <= GROWTH_MB)
        return report


def resident_mb(fleet: Fleet) -> float:
    """Return the resident memory of the largest worker."""
    return max(map(resident_mb_of, (worker.pid for worker in fleet.workers)))


def resident_mb_of(pid: int) -> float:
    """Return the resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


async def disk_full(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Fill the store's disk, restart a worker, then make room."""
    jobs = 120 * scale
    async with running_fleet(folder, latency_s=0.3) as fleet:
        full = await fill_disk(fleet, jobs)
        called, gone = await fleet.quiet(), await fleet.missing(jobs)
        await fleet.end(fleet.workers[0])
        fleet.start_worker(ENTRIES / "cramped.py", full)
        await asyncio.sleep(1.0 * scale)
        still = (await fleet.stats())["totals"]["calls"]
        full.unlink()
        back = time.monotonic()
        await fleet.wait_for_rows(jobs)
        report = await judge(fleet, "the store's disk full", jobs, extra=0)
        report.recovery_s = time.monotonic() - back
        _expect_full(fleet, report)
        report.expect(f"claims stop: {called} then {still} calls", kept=called == still < jobs)
        report.expect(f"no job ends without its row: {gone}", kept=not gone)
        return report


async def spool_full(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Fill the disks of store and spool, then kill a worker: only its calls are repeated."""
    jobs = 120 * scale
    (folder / "spool").write_text("a file where the spool directory should be")
    async with running_fleet(folder, latency_s=0.3) as fleet:
        full = await fill_disk(fleet, jobs)
        await fleet.quiet()
        await until(lambda: fleet.logged("spool failed"))
        gone = await fleet.missing(jobs)
        held = len(await fleet.held_by(fleet.workers[0]))
        fleet.kill(fleet.workers[0])
        fleet.start_worker(ENTRIES / "cramped.py", full)
        (folder / "spool").unlink()
        full.unlink()
        back = time.monotonic()
        await fleet.wait_for_rows(jobs)
        report = await judge(fleet, "the store's and the spool's disk full", jobs, extra=held)
        report.recovery_s = time.monotonic() - back
        _expect_full(fleet, report)
        report.expect(f"no job ends without its row: {gone}", kept=not gone)
        return report


async def fill_disk(fleet: Fleet, jobs: int) -> Path:
    """Fill the store's disk after some rows; return the file whose removal makes room again."""
    full = fleet.folder / "full"
    await fleet.feed(range(jobs))
    await fleet.start_workers(2, ENTRIES / "cramped.py", full)
    await until(lambda: fleet.has_rows(jobs // 10))
    full.touch()
    await until(lambda: fleet.logged("store away"))
    return full


def _expect_full(fleet: Fleet, report: Report) -> None:
    problem = fleet.logged("store away")[0]["problem"]
    report.expect(f"a clear error: {problem}", kept="its disk is full; free some" in problem)


async def unlinked(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Delete results.db while workers commit to it, restart them: later rows go to a new file."""
    jobs, path = 120 * scale, folder / "results.db"
    async with running_fleet(folder, latency_s=0.3) as fleet:
        await fleet.feed(range(jobs))
        await fleet.start_workers(2)
        await until(lambda: fleet.has_rows(jobs // 4))
        with closing(sqlite3.connect(path)) as deleted:
            _ids(deleted)  # from now on the connection keeps the deleted file readable
            for suffix in ("", "-wal", "-shm"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)
            kept = _ids(deleted)
        workers = list(fleet.workers)
        await until(lambda: all(fleet.logged("store away", each) for each in workers))
        called = await fleet.quiet()
        for worker in workers:
            await fleet.end(worker)
        began = time.monotonic()
        await fleet.start_workers(2)
        await until(path.exists)
        async with ResultStore.open(path) as fleet.store:
            await fleet.wait_for_rows(jobs - len(kept))
            recovery_s = time.monotonic() - began
            rows = await fleet.results()
        calls, crashed = (await fleet.stats())["totals"]["calls"], fleet.crashed()
    found = {row.job_id for row in rows}
    report = Report("results.db deleted", jobs, lost=jobs - len(found | kept))
    report.recovery_s, report.duplicates = recovery_s, len(rows) - len(found)
    report.extra_calls = calls - jobs
    report.expect("0 lost", kept=not report.lost)
    report.expect("0 duplicate rows", kept=not report.duplicates)
    report.expect("0 extra calls", kept=not report.extra_calls)
    report.expect(f"claims stop after {called} calls", kept=called < jobs)
    report.expect(f"every exit code is 0: {fleet.exits}", kept=not any(fleet.exits))
    report.expect(f"no worker exits by itself: {crashed}", kept=not crashed)
    return report


def _ids(connection: sqlite3.Connection) -> set[str]:
    return {job_id for (job_id,) in connection.execute("SELECT job_id FROM results")}
