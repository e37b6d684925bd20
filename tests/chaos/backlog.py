"""Faults of a long queue: a backlog of two days, a million rows, a batch behind a huge one."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from arq import ArqRedis
from redis.asyncio import ConnectionPool

import nightmill
from nightmill.queue import keys
from nightmill.queue.batches import Batches
from nightmill.records.job import now_ms
from tests.chaos.clocks import wrong_clock
from tests.chaos.fleet import BATCH, Fleet, running_fleet
from tests.chaos.report import Report, judge
from tests.chaos.store import resident_mb_of
from tests.rig import hello, until

MB: Final = 1_000_000
FLAT_MB: Final = 16.0
TWO_DAYS_MS: Final = 48 * 3_600_000


async def small_behind_huge(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Feed five jobs behind thousands: they start at once."""
    async with running_fleet(folder, latency_s=0.5) as fleet:
        await fleet.feed(range(2000 * scale), batch="huge")
        await fleet.start_workers(2)
        await fleet.wait_for_rows(50, "huge")
        await fleet.feed(range(5))
        fed = time.time()
        await fleet.wait_for_rows(5)
        rows = await fleet.results()
        report = Report(fault="5 jobs behind thousands", jobs=5, lost=5 - len(rows))
        starts = [(row.started_at or 0) / 1000 - fed for row in rows]
        report.recovery_s = min(starts, default=99.0)
        report.expect("first start <= 2 s", kept=report.recovery_s <= 2)
        return report


@asynccontextmanager
async def _plain_arq(fleet: Fleet) -> AsyncIterator[ArqRedis]:
    """Connect plain arq with the settings of docs/wire.md."""
    arq = ArqRedis(
        ConnectionPool.from_url(f"unix://{fleet.socket}"),
        default_queue_name=keys.QUEUE,
        job_serializer=nightmill.dump,
        job_deserializer=nightmill.load,
    )
    yield arq
    await arq.aclose(close_connection_pool=True)


async def old_backlog(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Keep jobs of two days ago waiting for a stopped account: no payload has a TTL."""
    jobs, by_arq = 200 * scale, 50
    async with running_fleet(folder, latency_s=0.1) as fleet:
        await fleet.configure(auth="another")
        with wrong_clock(-TWO_DAYS_MS // 1000):
            await fleet.feed(range(jobs))
        async with _plain_arq(fleet) as arq:
            for number in range(by_arq):
                await arq.enqueue_job("generate", hello(f"arq {number}"), _job_id=f"arq-{number}")
        await _age(fleet)
        await fleet.start_workers(2)
        await until(lambda: fleet.logged("account stopped"))
        await fleet.quiet()  # a 401 that is under way would stop the account once more
        await until(lambda: _none_has_ttl(fleet, jobs + by_arq))
        await fleet.configure(auth=None)
        batches = Batches(fleet.redis)
        for account in await batches.accounts():
            await batches.try_account_again(account)
        await fleet.wait_for_rows(jobs)
        await fleet.wait_for_rows(by_arq, keys.SINGLES)
        report = await judge(fleet, "a backlog of 48 h", jobs, extra=by_arq)
        ran = await fleet.rows(keys.SINGLES)
        report.expect(f"the jobs that plain arq enqueued run: {ran}", kept=ran == by_arq)
        waited = min((row.queue_ms or 0) for row in await fleet.results())
        report.expect("the rows show a wait of 48 h", kept=waited >= TWO_DAYS_MS)
        return report


async def million(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Feed a huge file through the feed window: memory does not grow with the file.

    The long form has a million rows and a window of 50,000.
    """
    rows, window, seconds = (20_000, 2_000, 2) if scale == 1 else (1_000_000, 50_000, 60)
    source = folder / "huge.csv"
    source.write_text("text\n" + "".join(f"row {n}\n" for n in range(rows)))
    async with running_fleet(folder, latency_s=0.1, window=window) as fleet:
        feeding = _start_feeder(fleet, source)
        try:
            await until(lambda: _is_full(fleet, window), within=30 * scale)
            every = await _none_has_ttl(fleet, window)
            before = resident_mb_of(feeding.pid)
            await fleet.start_workers(2)
            await asyncio.sleep(seconds)
            ran, grown = await fleet.rows("huge"), resident_mb_of(feeding.pid) - before
            peak_mb = (await fleet.redis.info("memory"))["used_memory_peak"] / MB
            waiting = feeding.poll() is None
        finally:
            feeding.kill()
            feeding.wait()
    report = Report(fault=f"{rows:,} rows in {peak_mb:.0f} MB of Redis", jobs=ran)
    report.expect("no payload has a TTL", kept=every)
    report.expect("the feeder still feeds at the end", kept=waiting and ran > 0)
    report.expect(f"Redis <= 500 MB: {peak_mb:.0f}", kept=peak_mb <= 500)
    report.expect(f"the feeder's memory is flat: {grown:.1f} MB more", kept=grown <= FLAT_MB)
    return report


def _start_feeder(fleet: Fleet, source: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "nightmill", "enqueue", f"{source}", "--prompt", "{{ text }}"]
    env = {**os.environ, **fleet.settings.to_env()}
    with (fleet.folder / "feeder.log").open("wb") as log:
        return subprocess.Popen(command, env=env, stdout=log, stderr=log)


async def _is_full(fleet: Fleet, window: int) -> bool:
    queue = keys.batch_queue("huge", fleet.settings.model)
    return bool(await fleet.redis.execute_command("ZCARD", queue) >= window)


async def _age(fleet: Fleet) -> None:
    """Set every queued job's due time to two days ago."""
    for queue in (keys.QUEUE, keys.batch_queue(BATCH, fleet.settings.model)):
        ids = await fleet.redis.execute_command("ZRANGE", queue, 0, -1)
        await fleet.redis.zadd(queue, dict.fromkeys(ids, now_ms() - TWO_DAYS_MS))


async def _none_has_ttl(fleet: Fleet, count: int) -> bool:
    payloads = [key async for key in fleet.redis.scan_iter(f"{keys.PAYLOAD}*", count=1000)]
    async with fleet.redis.pipeline(transaction=False) as pipe:
        for key in payloads:
            pipe.pttl(key)
        left = await pipe.execute()
    return len(left) == count and set(left) == {-1}
