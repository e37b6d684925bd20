"""Faults of worker processes: killed, restarted, frozen, blocked, cut short, poisoned."""

from __future__ import annotations

import asyncio
import random
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nightmill.records.job import now_ms
from tests.chaos.mill import ENTRIES, GRACE_S, LEASE_S, SLOTS, milling
from tests.chaos.report import Report, judge
from tests.rig import until

if TYPE_CHECKING:
    from subprocess import Popen

    from nightmill.records.result import Result
    from tests.chaos.mill import Mill

SHORT_LEASE_S: Final = 1.0
TWO_LEASES_S: Final = 2 * SHORT_LEASE_S + 0.3


async def kill_nine(folder: Path, rng: random.Random, scale: int) -> Report:
    """One worker of four is killed now and then, and another started; at length: every 5 s."""
    jobs, pause_s = (120, 1.5) if scale == 1 else (1000 * scale, 5.0)
    killed: list[tuple[int, list[str]]] = []
    async with milling(folder, latency_s=1.0 if scale == 1 else 2.0) as mill:
        await mill.feed(range(jobs))
        await mill.start_workers(4)
        while len(killed) < 2 or await mill.rows() < 0.9 * jobs:
            await asyncio.sleep(pause_s)
            worker = rng.choice(mill.workers)
            worker.send_signal(signal.SIGSTOP)  # so that what it holds can be counted
            killed.append((now_ms(), await mill.held_by(worker)))
            mill.kill(worker)
            mill.start_worker()
        await mill.wait_for_rows(jobs, within=30 + jobs / 20)
        held = sum(len(ids) for _, ids in killed)
        report = await judge(mill, "kill -9 of one worker of four", jobs, extra=held)
        rows = {row.job_id: row for row in await mill.results()}
        waits = sorted(
            wait for at, ids in killed for name in ids for wait in recoveries(rows[name], at)
        )
        report.recovery_s = waits[int(0.99 * (len(waits) - 1))] if waits else 0.0
        kept = report.recovery_s <= LEASE_S + 5
        report.expect(f"recovery p99 <= lease + 5 s of {len(waits)}", kept=kept)
        return report


def recoveries(row: Result, killed_at: int) -> list[float]:
    """Return the seconds from a death (epoch ms) to the job's next call, [] if it needed none."""
    later = [call.started_at for call in row.attempts if call.started_at > killed_at]
    return [(min(later) - killed_at) / 1000] if later else []


async def rolling_restart(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Every worker is replaced, SIGTERM by SIGTERM, while calls are under way."""
    jobs = 250 * scale
    async with milling(folder, latency_s=0.5) as mill:
        await mill.feed(range(jobs))
        await mill.start_workers(2)
        slowest = 0.0
        for _ in range(1 + scale):
            await mill.start_workers(1)  # as a rollout does: the next is there before one goes
            slowest = max(slowest, await mill.end(mill.workers[0]))
        await mill.wait_for_rows(jobs)
        report = await judge(mill, "SIGTERM, rolling restarts", jobs, extra=0)
        spent = [row for row in await mill.results() if row.attempt_count != 1]
        report.expect(f"0 attempts spent: {spent[:3]}", kept=not spent)
        report.expect(f"exit <= grace + 2 s: {slowest:.1f}", kept=slowest <= GRACE_S + 2)
        return report


async def short_grace(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Stop while calls outlast the grace period: given back, and no attempt is spent."""
    async with milling(folder, latency_s=2.0, grace_s=0.2) as mill:
        await mill.feed(range(8))
        await mill.start_workers(1)
        await until(lambda: mill.is_calling(4))
        took = await mill.end(mill.workers[0])
        await mill.start_workers(1)
        await mill.wait_for_rows(8)
        report = await judge(mill, "SIGTERM, calls longer than the grace", 8, extra=8)
        spent = [row for row in await mill.results() if row.attempt_count != 1]
        report.expect("0 attempts spent", kept=not spent)
        report.expect(f"exit <= grace + 2 s: {took:.1f}", kept=took <= 2.2)
        return report


async def frozen_worker(folder: Path, rng: random.Random, _scale: int) -> Report:
    """Freeze a worker for two leases: others take over, and it comes back too late."""
    async with milling(folder, latency_s=0.8, lease_s=SHORT_LEASE_S) as mill:
        await mill.feed(range(60))
        await mill.start_workers(3)
        await until(lambda: mill.is_calling(10))
        worker = rng.choice(mill.workers)
        worker.send_signal(signal.SIGSTOP)
        await until_lost(mill, worker)
        worker.send_signal(signal.SIGCONT)
        await mill.wait_for_rows(60)
        report = await judge(mill, "a worker frozen for two leases", 60, extra=SLOTS)
        return await expect_refusals(mill, report)


async def frozen_alone(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Freeze the only worker for two leases: it takes its own jobs up again, unpaid."""
    async with milling(folder, latency_s=0.8, lease_s=SHORT_LEASE_S) as mill:
        await mill.feed(range(20))
        await mill.start_workers(1)
        await until(lambda: mill.is_calling(10))
        mill.workers[0].send_signal(signal.SIGSTOP)
        await asyncio.sleep(TWO_LEASES_S)
        mill.workers[0].send_signal(signal.SIGCONT)
        await mill.wait_for_rows(20)
        return await judge(mill, "the only worker frozen for two leases", 20, extra=0)


async def until_lost(mill: Mill, worker: Popen[bytes]) -> None:
    """Wait for two leases, and until others have taken over a job that `worker` holds now."""
    held = await mill.held_by(worker)
    await asyncio.sleep(TWO_LEASES_S)
    await until(lambda: mill.has_lost(worker, held))


async def blocked_loop(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Block the loop of one worker of three for two leases; its sockets and threads live on."""
    async with milling(folder, latency_s=0.8, lease_s=SHORT_LEASE_S) as mill:
        end = folder / "end"
        await mill.start_workers(1, ENTRIES / "blocked.py", end)
        [blocked] = mill.workers
        await mill.start_workers(2)
        await mill.feed(range(90))
        await until(lambda: mill.said("is blocked"))
        await until_lost(mill, blocked)
        end.touch()
        await mill.wait_for_rows(90)
        report = await judge(mill, "a loop blocked for two leases", 90, extra=SLOTS)
        return await expect_refusals(mill, report)


async def blocked_alone(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Block the loop of the only worker for two leases: nothing is called again."""
    async with milling(folder, latency_s=0.8, lease_s=SHORT_LEASE_S) as mill:
        end = folder / "end"
        await mill.start_workers(1, ENTRIES / "blocked.py", end)
        await mill.feed(range(40))
        await until(lambda: mill.said("is blocked"))
        await asyncio.sleep(TWO_LEASES_S)
        end.touch()
        await mill.wait_for_rows(40)
        return await judge(mill, "the only loop blocked for two leases", 40, extra=0)


async def expect_refusals(mill: Mill, report: Report) -> Report:
    """Expect that a worker is told that its jobs are others' by now, however late it wakes."""
    with suppress(TimeoutError):
        await until(lambda: _refused(mill))
    report.expect("what came too late is refused and told", kept=_refused(mill))
    return report


def _refused(mill: Mill) -> bool:
    return bool(mill.said("lease lost") or mill.said("finish refused"))


async def cut_short(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Die just before a commit, and between a commit and its finish: no job ends without its row.

    What was committed is never called again.
    """
    jobs = 80 * scale
    async with milling(folder, latency_s=0.3) as mill:
        await mill.feed(range(jobs))
        unpaid, gone = 0, set[str]()
        for when in ("unstored", "stored") * scale:
            before = await mill.rows()
            worker = mill.start_worker(ENTRIES / "cut_short.py", when)
            await asyncio.to_thread(worker.wait, 30)
            mill.workers.remove(worker)
            stored = await mill.rows() - before
            unpaid += len(await mill.held_by(worker)) - stored
            gone |= await mill.missing(jobs)
        await mill.start_workers(2)
        await mill.wait_for_rows(jobs)
        report = await judge(mill, "killed between commit and finish", jobs, extra=unpaid)
        report.expect(f"no finished job without its row: {gone}", kept=not gone)
        return report


async def poison(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Feed a job that kills every process it runs in; its neighbours must not suffer for it."""
    jobs = 30
    async with milling(folder, latency_s=0.3, lease_s=1.0) as mill, asyncio.TaskGroup() as group:
        reviving = group.create_task(_revive(mill, ENTRIES / "poisoned.py"))
        await mill.feed(range(jobs))
        await mill.feed(range(1), batch="poison")
        await mill.wait_for_rows(jobs)
        await mill.wait_for_rows(1, "poison")
        reviving.cancel()
        report = await judge(mill, "a job its process dies of", jobs, extra=4 * SLOTS)
        [row] = await mill.results("poison")
        report.expect(f"quarantined: {row} {row.error}", kept=_is_poison(row))
        deaths = sum(attempt.outcome == "lost" for attempt in row.attempts)
        report.expect(f"after 2 deaths and 3 alone: {deaths}", kept=deaths == 5)
        return report


def _is_poison(row: Result) -> bool:
    return row.error is not None and row.error.type == "poison"


async def _revive(mill: Mill, entry: Path) -> None:
    while True:
        for worker in [worker for worker in mill.workers if worker.poll() is not None]:
            mill.workers.remove(worker)
        while len(mill.workers) < 2:
            mill.start_worker(entry)
        await asyncio.sleep(0.1)
