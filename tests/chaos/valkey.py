"""Faults of Redis: killed, truncated, full, read-only, without scripts, out of reach."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import time
from contextlib import aclosing
from pathlib import Path

from nightmill.enqueue.reconcile import reconcile
from nightmill.queue.batches import Batches
from nightmill.queue.connection import connect
from tests.chaos.fleet import BATCH, SLOTS, Fleet, running_fleet
from tests.chaos.processes import SHORT_LEASE_S, expect_refusals, until_lost
from tests.chaos.proxy import proxied
from tests.chaos.report import Report, judge
from tests.rig import until


async def redis_killed(folder: Path, rng: random.Random, scale: int) -> Report:
    """Kill Redis and start it again: no job of its append-only file is lost."""
    jobs = 80 * scale
    async with running_fleet(folder, latency_s=0.5) as fleet:
        await fleet.feed(range(jobs))
        await asyncio.sleep(1.1)  # appendfsync everysec writes at least once in this time
        await fleet.start_workers(2)
        resumed = 0.0
        for _ in range(scale):
            await asyncio.sleep(0.3 + rng.random())
            fleet.kill_valkey()
            await asyncio.sleep(1.0)
            before, began = await fleet.rows(), time.monotonic()
            await fleet.start_valkey()
            await fleet.wait_for_rows(min(before + SLOTS, jobs), within=20)
            resumed = max(resumed, time.monotonic() - began)
        await fleet.wait_for_rows(jobs)
        report = await judge(fleet, "Redis killed and started again", jobs)
        report.recovery_s = resumed
        report.expect("work resumes <= 10 s", kept=resumed <= 10)
        return report


async def aof_cut(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Cut off the last second of the append-only file, as a power loss does; feed again."""
    jobs = 80 * scale
    async with running_fleet(folder, latency_s=0.5) as fleet:
        await fleet.feed(range(jobs // 2))
        await fleet.start_workers(2)
        await fleet.wait_for_rows(10)
        await asyncio.sleep(1.1)
        written = fleet.aof().stat().st_size
        await fleet.feed(range(jobs // 2, jobs))
        await asyncio.sleep(0.9)
        fleet.kill_valkey()
        os.truncate(fleet.aof(), written)
        began = time.monotonic()
        await fleet.start_valkey()
        await fleet.feed(range(jobs))
        await fleet.wait_for_rows(jobs)
        report = await judge(fleet, "Redis killed, last second of its file cut", jobs)
        report.recovery_s = time.monotonic() - began
        # A finish that was cut off left a row and a queued job; that job is never counted.
        async with aclosing(connect(fleet.settings)) as redis:
            batches = Batches(redis)
            await until(lambda: reconcile(batches, BATCH, fleet.store))
            counts = await batches.counts(BATCH)
        report.expect(f"the counts equal the rows: {counts}", kept=counts.terminal == jobs)
        return report


async def dropped_connections(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Drop every connection to Redis every 100 ms."""
    jobs, seconds = 80 * scale, 2 if scale == 1 else 60
    async with running_fleet(folder, latency_s=0.5) as fleet:
        await fleet.feed(range(jobs))
        await fleet.start_workers(2)
        for _ in range(seconds * 10):
            await fleet.redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            await asyncio.sleep(0.1)
        await fleet.wait_for_rows(jobs)
        return await judge(fleet, "connections dropped every 100 ms", jobs)


async def full_redis(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Fill Redis: producers are refused; workers continue and make room."""
    async with running_fleet(folder, latency_s=0.3) as fleet:
        await fleet.feed(range(60))
        await fleet.start_workers(2)
        await fleet.wait_for_rows(10)
        await fleet.redis.config_set("maxmemory", 1_000_000)
        await fleet.wait_for_rows(60)
        report = await judge(fleet, "Redis full (OOM)", 60, extra=0)
        await fleet.redis.config_set("maxmemory", 0)
        return report


async def read_only(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Make Redis a read-only replica for two seconds, as in a failover."""
    async with running_fleet(folder, latency_s=0.3) as fleet:
        await fleet.feed(range(60))
        await fleet.start_workers(2)
        await fleet.wait_for_rows(20)
        await fleet.redis.execute_command("REPLICAOF", "127.0.0.1", "1")
        await asyncio.sleep(2)
        await fleet.redis.execute_command("REPLICAOF", "NO", "ONE")
        await fleet.wait_for_rows(60)
        return await judge(fleet, "Redis read-only for 2 s", 60)


async def forgotten_scripts(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Empty the script cache every 10 ms."""
    async with running_fleet(folder, latency_s=0.3) as fleet:
        await fleet.feed(range(60))
        await fleet.start_workers(2)
        for _ in range(150):
            await fleet.redis.script_flush()
            await asyncio.sleep(0.01)
        await fleet.wait_for_rows(60)
        return await judge(fleet, "SCRIPT FLUSH every 10 ms", 60, extra=0)


async def cut_off(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Cut one worker off from Redis for two leases: others take over its jobs."""
    async with running_fleet(folder, latency_s=0.8, lease_s=SHORT_LEASE_S) as fleet:
        path = folder / "p.sock"
        async with proxied(fleet.socket, path) as proxy:
            await fleet.start_workers(1, NIGHTMILL_REDIS_URL=f"unix://{path}")
            [remote] = fleet.workers
            await fleet.start_workers(2)
            await fleet.feed(range(90))
            await until(lambda: _holds(fleet, remote, 5))
            proxy.hold()
            held = await until_lost(fleet, remote)
            proxy.restore()
            await fleet.wait_for_rows(90)
            report = await judge(fleet, "a worker cut off from Redis", 90, extra=held)
            return await expect_refusals(fleet, report)


async def _holds(fleet: Fleet, worker: subprocess.Popen[bytes], jobs: int) -> bool:
    return len(await fleet.held_by(worker)) >= jobs


async def no_replicas(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Have Redis refuse every write for want of replicas (NOREPLICAS), as after a failover."""
    jobs, refused_s = 150 * scale, 2.0
    async with running_fleet(folder, latency_s=0.3, lease_s=5) as fleet:
        await fleet.feed(range(jobs))
        await fleet.start_workers(2)
        for step in range(1, scale + 1):
            await fleet.wait_for_rows(jobs * step // (2 * scale))
            await fleet.redis.config_set("min-replicas-to-write", 1)
            await asyncio.sleep(refused_s)
            await fleet.redis.config_set("min-replicas-to-write", 0)
        back = time.monotonic()
        await fleet.wait_for_rows(jobs)
        report = await judge(fleet, f"NOREPLICAS for {refused_s} s", jobs, extra=0)
        report.recovery_s = time.monotonic() - back
        report.expect("Redis is reported away", kept=bool(fleet.logged("redis away")))
        return report
