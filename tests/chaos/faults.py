"""The faults: each hurts a mill that works, waits until it is done, and judges what is left."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from nightmill.batch import Batches
from nightmill.connect import connect
from nightmill.result import Result
from tests.chaos.away import cut_off, store_away, storm
from tests.chaos.mill import BATCH, GRACE_S, LEASE_S, SLOTS, Mill, milling
from tests.chaos.report import Report, judge
from tests.rig import until

Fault = Callable[[Path, random.Random, int], Awaitable[Report]]


async def kill_nine(folder: Path, rng: random.Random, scale: int) -> Report:
    """One worker of four is killed now and then, and another started; at length: every 5 s."""
    jobs, pause_s = (120, 1.5) if scale == 1 else (1000 * scale, 5.0)
    kills = 0
    async with milling(folder, latency_s=1.0 if scale == 1 else 2.0) as mill:
        await mill.feed(range(jobs))
        await mill.start_workers(4)
        while kills < 2 or await mill.rows() < 0.9 * jobs:
            await asyncio.sleep(pause_s)
            mill.kill(rng.choice(mill.workers))
            mill.start_worker()
            kills += 1
        await mill.wait_for_rows(jobs, within=30 + jobs / 20)
        report = await judge(mill, "kill -9 of one worker of four", jobs, extra=kills * SLOTS)
        report.recovery_s = max(map(recovery, await mill.results()), default=0.0)
        report.expect("recovery <= lease + 5 s", kept=report.recovery_s <= LEASE_S + 5)
        return report


def recovery(row: Result) -> float:
    """Return the longest wait from a lost call's lease to the next call's start, seconds."""
    waits = [
        later.started_at - lost.started_at - lost.duration_ms
        for lost, later in zip(row.attempts, row.attempts[1:], strict=False)
        if lost.outcome == "lost"
    ]
    return LEASE_S + max(waits) / 1000 if waits else 0.0


async def rolling_restart(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Every worker is replaced, SIGTERM by SIGTERM, while calls are under way."""
    jobs = 60 * scale
    async with milling(folder, latency_s=0.5) as mill:
        await mill.feed(range(jobs))
        await mill.start_workers(2)
        slowest = 0.0
        for _ in range(1 + scale):
            await asyncio.sleep(0.3)
            mill.start_worker()
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
        await until(lambda: _in_flight(mill, 4))
        took = await mill.end(mill.workers[0])
        await mill.start_workers(1)
        await mill.wait_for_rows(8)
        report = await judge(mill, "SIGTERM, calls longer than the grace", 8, extra=8)
        spent = [row for row in await mill.results() if row.attempt_count != 1]
        report.expect("0 attempts spent", kept=not spent)
        report.expect(f"exit <= grace + 2 s: {took:.1f}", kept=took <= 2.2)
        return report


async def _in_flight(mill: Mill, count: int) -> bool:
    return await mill.in_flight() >= count


async def redis_killed(folder: Path, rng: random.Random, scale: int) -> Report:
    """Redis is killed and started again; nobody loses what the file has."""
    jobs = 80 * scale
    async with milling(folder, latency_s=0.5) as mill:
        await mill.feed(range(jobs))
        await asyncio.sleep(1.1)  # as long as appendfsync everysec may be behind
        await mill.start_workers(2)
        resumed = 0.0
        for _ in range(scale):
            await asyncio.sleep(0.3 + rng.random())
            mill.kill_valkey()
            await asyncio.sleep(1.0)
            before, began = await mill.rows(), time.monotonic()
            await mill.start_valkey()
            await mill.wait_for_rows(min(before + SLOTS, jobs), within=20)
            resumed = max(resumed, time.monotonic() - began)
        await mill.wait_for_rows(jobs)
        report = await judge(mill, "Redis killed and started again", jobs)
        report.recovery_s = resumed
        report.expect("work resumes <= 10 s", kept=resumed <= 10)
        return report


async def aof_cut(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Lose the file's last second, as in a power loss, and feed the batch again."""
    jobs = 80 * scale
    async with milling(folder, latency_s=0.5) as mill:
        await mill.feed(range(jobs // 2))
        await mill.start_workers(2)
        await mill.wait_for_rows(10)
        await asyncio.sleep(1.1)
        written = mill.aof().stat().st_size
        await mill.feed(range(jobs // 2, jobs))
        await asyncio.sleep(0.9)
        mill.kill_valkey()
        os.truncate(mill.aof(), written)
        began = time.monotonic()
        await mill.start_valkey()
        await mill.feed(range(jobs))
        await mill.wait_for_rows(jobs)
        report = await judge(mill, "Redis killed, last second of its file cut", jobs)
        report.recovery_s = time.monotonic() - began
        # A finish that was cut off left its row, and its job in the queue: it ends uncounted.
        async with aclosing(connect(mill.settings)) as redis:
            batches = Batches(redis)
            await until(lambda: batches.reconcile(BATCH, mill.store))
            counts = await batches.counts(BATCH)
        report.expect(f"counts are the rows: {counts}", kept=counts.terminal == jobs)
        return report


async def dropped_connections(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Every connection is dropped every 100 ms."""
    jobs, seconds = 80 * scale, 2 if scale == 1 else 60
    async with milling(folder, latency_s=0.5) as mill:
        await mill.feed(range(jobs))
        await mill.start_workers(2)
        for _ in range(seconds * 10):
            await mill.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.sleep(0.1)
        await mill.wait_for_rows(jobs)
        return await judge(mill, "connections dropped every 100 ms", jobs)


FROZEN_LEASE_S: Final = 1.0


async def frozen_worker(folder: Path, rng: random.Random, _scale: int) -> Report:
    """Freeze a worker for two leases: others take over, and it comes back too late."""
    async with milling(folder, latency_s=0.8, lease_s=FROZEN_LEASE_S) as mill:
        await mill.feed(range(60))
        await mill.start_workers(3)
        await until(lambda: _in_flight(mill, 10))
        worker = rng.choice(mill.workers)
        worker.send_signal(signal.SIGSTOP)
        await asyncio.sleep(2 * FROZEN_LEASE_S + 0.3)
        worker.send_signal(signal.SIGCONT)
        await mill.wait_for_rows(60)
        return await judge(mill, "a worker frozen for two leases", 60, extra=SLOTS)


async def frozen_alone(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Freeze the only worker for two leases: it takes its own jobs up again, unpaid."""
    async with milling(folder, latency_s=0.8, lease_s=FROZEN_LEASE_S) as mill:
        await mill.feed(range(20))
        await mill.start_workers(1)
        await until(lambda: _in_flight(mill, 10))
        mill.workers[0].send_signal(signal.SIGSTOP)
        await asyncio.sleep(2 * FROZEN_LEASE_S + 0.3)
        mill.workers[0].send_signal(signal.SIGCONT)
        await mill.wait_for_rows(20)
        return await judge(mill, "the only worker frozen for two leases", 20, extra=0)


async def poison(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Feed a job that kills every process it runs in; its neighbours must not suffer for it."""
    entry = str(Path(__file__).with_name("poisoned.py"))
    jobs = 30
    async with milling(folder, latency_s=0.3, lease_s=1.0) as mill, asyncio.TaskGroup() as group:
        reviving = group.create_task(_revive(mill, entry))
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


async def _revive(mill: Mill, entry: str) -> None:
    while True:
        for worker in [worker for worker in mill.workers if worker.poll() is not None]:
            mill.workers.remove(worker)
        while len(mill.workers) < 2:
            mill.start_worker(entry)
        await asyncio.sleep(0.1)


async def full_redis(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Redis is full: producers are refused, workers go on and make room."""
    async with milling(folder, latency_s=0.3) as mill:
        await mill.feed(range(60))
        await mill.start_workers(2)
        await mill.wait_for_rows(10)
        await mill.redis.config_set("maxmemory", 1_000_000)
        await mill.wait_for_rows(60)
        report = await judge(mill, "Redis full (OOM)", 60, extra=0)
        await mill.redis.config_set("maxmemory", 0)
        return report


async def read_only(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Redis becomes a replica for two seconds, as in a failover."""
    async with milling(folder, latency_s=0.3) as mill:
        await mill.feed(range(60))
        await mill.start_workers(2)
        await mill.wait_for_rows(20)
        await mill.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        await asyncio.sleep(2)
        await mill.redis.execute_command("REPLICAOF", "NO", "ONE")
        await mill.wait_for_rows(60)
        return await judge(mill, "Redis read-only for 2 s", 60)


async def forgotten_scripts(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Empty the script cache all the time."""
    async with milling(folder, latency_s=0.3) as mill:
        await mill.feed(range(60))
        await mill.start_workers(2)
        for _ in range(150):
            await mill.redis.script_flush()
            await asyncio.sleep(0.01)
        await mill.wait_for_rows(60)
        return await judge(mill, "SCRIPT FLUSH every 10 ms", 60, extra=0)


async def small_behind_huge(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Five jobs behind thousands start at once."""
    async with milling(folder, latency_s=0.5) as mill:
        await mill.feed(range(2000 * scale), batch="huge")
        await mill.start_workers(2)
        await mill.wait_for_rows(50, "huge")
        await mill.feed(range(5))
        fed = time.time()
        await mill.wait_for_rows(5)
        rows = await mill.results()
        report = Report(fault="5 jobs behind thousands", jobs=5, lost=5 - len(rows))
        starts = [(row.started_at or 0) / 1000 - fed for row in rows]
        report.recovery_s = min(starts, default=99.0)
        report.expect("first start <= 2 s", kept=report.recovery_s <= 2)
        return report


async def wrong_clocks(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Feed by clocks ten minutes fast and slow: jobs start at once, delayed ones on time."""
    async with milling(folder, latency_s=0.1) as mill:
        await mill.start_workers(1)
        real = time.time_ns() // 1_000_000
        began = time.monotonic()
        for ahead in (600_000, -600_000):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("nightmill.client.now_ms", lambda ahead=ahead: real + ahead)
                await mill.feed(range(5), batch=f"by {ahead}")
        for ahead in (600_000, -600_000):
            await mill.wait_for_rows(5, f"by {ahead}", within=5)
        took = time.monotonic() - began
        await mill.feed(range(5))
        await mill.wait_for_rows(5)
        report = await judge(mill, "producers' clocks 10 min off", 5, extra=10)
        report.recovery_s = took
        report.expect("start delay <= 1 s", kept=took <= 2)
        return report


@dataclass(frozen=True)
class Row:
    """A fault and how many seeds its long form takes."""

    fault: Fault
    seeds: int = 3


ROWS: Final = {
    fault.__name__: Row(fault, 10 if fault is kill_nine else 3)
    for fault in (
        kill_nine,
        rolling_restart,
        short_grace,
        redis_killed,
        aof_cut,
        dropped_connections,
        frozen_worker,
        frozen_alone,
        poison,
        full_redis,
        read_only,
        forgotten_scripts,
        small_behind_huge,
        wrong_clocks,
        cut_off,
        store_away,
        storm,
    )
}
