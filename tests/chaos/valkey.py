"""Faults of Redis: killed, cut, dropped, full, read-only, forgetful, out of reach."""

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
from tests.chaos.mill import BATCH, SLOTS, Mill, milling
from tests.chaos.processes import SHORT_LEASE_S, expect_refusals, until_lost
from tests.chaos.proxy import proxied
from tests.chaos.report import Report, judge
from tests.rig import until


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
            await until(lambda: reconcile(batches, BATCH, mill.store))
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


async def cut_off(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Cut one worker off from Redis for two leases: it goes on calling, others take over."""
    async with milling(folder, latency_s=0.8, lease_s=SHORT_LEASE_S) as mill:
        path = folder / "p.sock"
        async with proxied(mill.socket, path) as proxy:
            await mill.start_workers(1, NIGHTMILL_REDIS_URL=f"unix://{path}")
            [remote] = mill.workers
            await mill.start_workers(2)
            await mill.feed(range(90))
            await until(lambda: _holds(mill, remote, 5))
            proxy.cut()
            await until_lost(mill, remote)
            proxy.mend()
            await mill.wait_for_rows(90)
            report = await judge(mill, "a worker cut off from Redis", 90, extra=SLOTS)
            return await expect_refusals(mill, report)


async def _holds(mill: Mill, worker: subprocess.Popen[bytes], jobs: int) -> bool:
    return len(await mill.held_by(worker)) >= jobs
