"""Faults of worker processes: killed, restarted, frozen, blocked, killed by a job."""

from __future__ import annotations

import asyncio
import random
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nightmill.records.job import now_ms
from tests.chaos.fleet import ENTRIES, GRACE_S, LEASE_S, SLOTS, running_fleet
from tests.chaos.report import Report, judge
from tests.rig import until

if TYPE_CHECKING:
    from subprocess import Popen

    from nightmill.records.result import Result
    from tests.chaos.fleet import Fleet

SHORT_LEASE_S: Final = 1.0
TWO_LEASES_S: Final = 2 * SHORT_LEASE_S + 0.3


async def kill_nine(folder: Path, rng: random.Random, scale: int) -> Report:
    """Kill one worker of four every 1.5 s (long form: 5 s) and start another."""
    jobs, pause_s = (120, 1.5) if scale == 1 else (1000 * scale, 5.0)
    killed: list[tuple[int, list[str]]] = []
    async with running_fleet(folder, latency_s=1.0 if scale == 1 else 2.0) as fleet:
        await fleet.feed(range(jobs))
        await fleet.start_workers(4)
        while len(killed) < 2 or await fleet.rows() < 0.9 * jobs:
            await asyncio.sleep(pause_s)
            worker = rng.choice(fleet.workers)
            worker.send_signal(
                signal.SIGSTOP
            )  # so that the jobs it holds do not change while they are counted
            killed.append((now_ms(), await fleet.held_by(worker)))
            fleet.kill(worker)
            fleet.start_worker()
        await fleet.wait_for_rows(jobs, within=30 + jobs / 20)
        held = sum(len(ids) for _, ids in killed)
        report = await judge(fleet, "SIGKILL of one worker of four", jobs, extra=held)
        rows = {row.job_id: row for row in await fleet.results()}
        waits = sorted(
            wait for at, ids in killed for name in ids for wait in recoveries(rows[name], at)
        )
        report.recovery_s = waits[int(0.99 * (len(waits) - 1))] if waits else 0.0
        kept = report.recovery_s <= LEASE_S + 5
        report.expect(f"recovery p99 <= lease + 5 s of {len(waits)}", kept=kept)
        return report


def recoveries(row: Result, killed_at: int) -> list[float]:
    """Return the seconds from a kill (epoch ms) to the job's next call; [] if there was none."""
    later = [call.started_at for call in row.attempts if call.started_at > killed_at]
    return [(min(later) - killed_at) / 1000] if later else []


async def rolling_restart(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Replace workers one by one with SIGTERM while calls are under way."""
    jobs = 250 * scale
    async with running_fleet(folder, latency_s=0.5) as fleet:
        await fleet.feed(range(jobs))
        await fleet.start_workers(2)
        slowest = 0.0
        for _ in range(1 + scale):
            await fleet.start_workers(1)  # a rollout also starts the next before it stops one
            slowest = max(slowest, await fleet.end(fleet.workers[0]))
        await fleet.wait_for_rows(jobs)
        report = await judge(fleet, "SIGTERM, rolling restarts", jobs, extra=0)
        spent = [row for row in await fleet.results() if row.attempt_count != 1]
        report.expect(f"no restart spends an attempt: {spent[:3]}", kept=not spent)
        report.expect(f"exit <= grace + 2 s: {slowest:.1f}", kept=slowest <= GRACE_S + 2)
        return report


async def short_grace(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Stop a worker whose calls outlast the grace period: no attempt is spent."""
    async with running_fleet(folder, latency_s=2.0, grace_s=0.2) as fleet:
        await fleet.feed(range(8))
        await fleet.start_workers(1)
        await until(lambda: fleet.is_calling(4))
        took = await fleet.end(fleet.workers[0])
        await fleet.start_workers(1)
        await fleet.wait_for_rows(8)
        report = await judge(fleet, "SIGTERM, calls longer than the grace", 8, extra=8)
        spent = [row for row in await fleet.results() if row.attempt_count != 1]
        report.expect("0 attempts spent", kept=not spent)
        report.expect(f"exit <= grace + 2 s: {took:.1f}", kept=took <= 2.2)
        return report


async def frozen_worker(folder: Path, rng: random.Random, _scale: int) -> Report:
    """Freeze a worker for two leases: others take over its jobs before it continues."""
    async with running_fleet(folder, latency_s=0.8, lease_s=SHORT_LEASE_S) as fleet:
        await fleet.feed(range(60))
        await fleet.start_workers(3)
        await until(lambda: fleet.is_calling(10))
        worker = rng.choice([each for each in fleet.workers if await fleet.held_by(each)])
        worker.send_signal(signal.SIGSTOP)
        held = await until_lost(fleet, worker)
        worker.send_signal(signal.SIGCONT)
        await fleet.wait_for_rows(60)
        report = await judge(fleet, "a worker frozen for two leases", 60, extra=held)
        return await expect_refusals(fleet, report)


async def frozen_alone(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Freeze the only worker for two leases: it continues its own jobs without a new call."""
    async with running_fleet(folder, latency_s=0.8, lease_s=SHORT_LEASE_S) as fleet:
        await fleet.feed(range(20))
        await fleet.start_workers(1)
        await until(lambda: fleet.is_calling(10))
        fleet.workers[0].send_signal(signal.SIGSTOP)
        await asyncio.sleep(TWO_LEASES_S)
        fleet.workers[0].send_signal(signal.SIGCONT)
        await fleet.wait_for_rows(20)
        return await judge(fleet, "the only worker frozen for two leases", 20, extra=0)


async def until_lost(fleet: Fleet, worker: Popen[bytes]) -> int:
    """Wait for two leases, and until another worker has taken over a job that `worker` holds.

    Returns the number of jobs that it held: calls in flight, and answers that are not committed.
    """
    held = await fleet.held_by(worker)
    await asyncio.sleep(TWO_LEASES_S)
    await until(lambda: fleet.has_lost(worker, held))
    return len(held)


async def blocked_loop(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Block the event loop of one worker of three for two leases; its threads continue."""
    async with running_fleet(folder, latency_s=0.8, lease_s=SHORT_LEASE_S) as fleet:
        end = folder / "end"
        await fleet.start_workers(1, ENTRIES / "blocked.py", end)
        [blocked] = fleet.workers
        await fleet.start_workers(2)
        await fleet.feed(range(90))
        await until(lambda: fleet.logged("is blocked"))
        held = await until_lost(fleet, blocked)
        end.touch()
        await fleet.wait_for_rows(90)
        report = await judge(fleet, "an event loop blocked for two leases", 90, extra=held)
        return await expect_refusals(fleet, report)


async def blocked_alone(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Block the event loop of the only worker for two leases: no call is repeated."""
    async with running_fleet(folder, latency_s=0.8, lease_s=SHORT_LEASE_S) as fleet:
        end = folder / "end"
        await fleet.start_workers(1, ENTRIES / "blocked.py", end)
        await fleet.feed(range(40))
        await until(lambda: fleet.logged("is blocked"))
        await asyncio.sleep(TWO_LEASES_S)
        end.touch()
        await fleet.wait_for_rows(40)
        return await judge(fleet, "the only event loop blocked for two leases", 40, extra=0)


async def expect_refusals(fleet: Fleet, report: Report) -> Report:
    """Expect that the late worker's finish is refused and logged."""
    with suppress(TimeoutError):
        await until(lambda: _refused(fleet))
    report.expect("a late finish is refused and logged", kept=_refused(fleet))
    return report


def _refused(fleet: Fleet) -> bool:
    return bool(fleet.logged("lease lost") or fleet.logged("finish refused"))


async def cut_short(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Kill workers just before a commit, and between a commit and its finish.

    No job ends without its row, and a committed job is never called again.
    """
    jobs = 80 * scale
    async with running_fleet(folder, latency_s=0.3) as fleet:
        await fleet.feed(range(jobs))
        uncommitted, gone = 0, set[str]()
        for when in ("unstored", "stored") * scale:
            before = await fleet.rows()
            worker = fleet.start_worker(ENTRIES / "cut_short.py", when)
            await asyncio.to_thread(worker.wait, 30)
            fleet.workers.remove(worker)
            stored = await fleet.rows() - before
            uncommitted += len(await fleet.held_by(worker)) - stored
            gone |= await fleet.missing(jobs)
        await fleet.start_workers(2)
        await fleet.wait_for_rows(jobs)
        report = await judge(fleet, "killed between commit and finish", jobs, extra=uncommitted)
        report.expect(f"no finished job without its row: {gone}", kept=not gone)
        return report


async def poison(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Feed a job that kills every process it runs in; no other job may fail because of it."""
    jobs = 30
    async with (
        running_fleet(folder, latency_s=0.3, lease_s=1.0) as fleet,
        asyncio.TaskGroup() as group,
    ):
        restarting = group.create_task(_restart_dead(fleet, ENTRIES / "poisoned.py"))
        await fleet.feed(range(jobs))
        await fleet.feed(range(1), batch="poison")
        await fleet.wait_for_rows(jobs)
        await fleet.wait_for_rows(1, "poison")
        restarting.cancel()
        report = await judge(fleet, "a job that kills its process", jobs, extra=4 * SLOTS)
        [row] = await fleet.results("poison")
        report.expect(f"quarantined: {row} {row.error}", kept=_is_poison(row))
        deaths = sum(attempt.outcome == "lost" for attempt in row.attempts)
        report.expect(f"after 2 deaths among others and 3 alone: {deaths}", kept=deaths == 5)
        return report


def _is_poison(row: Result) -> bool:
    return row.error is not None and row.error.type == "poison"


async def _restart_dead(fleet: Fleet, entry: Path) -> None:
    while True:
        for worker in [worker for worker in fleet.workers if worker.poll() is not None]:
            fleet.workers.remove(worker)
        while len(fleet.workers) < 2:
            fleet.start_worker(entry)
        await asyncio.sleep(0.1)
