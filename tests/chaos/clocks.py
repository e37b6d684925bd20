"""Faults of wall clocks: wrong in producers, wrong in workers, stepped while calls are open."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from nightmill import Producer
from nightmill.records.state import JobState
from tests.chaos.endpoint import busy, throughput, until_throughput
from tests.chaos.fleet import ENTRIES, SLOTS, Fleet, running_fleet
from tests.chaos.report import Report, judge
from tests.rig import hello, until

OFF_S: Final = 600
DELAY_S: Final = 1.0
DAY_S: Final = 86_400
SHARE: Final = 0.8
"""Share of the throughput before a clock step that must return after it."""
BACK_S: Final = 10.0


async def producers_clocks(folder: Path, _rng: random.Random, _scale: int) -> Report:
    """Feed with clocks ten minutes fast and slow: jobs start at once, deadlines are kept."""
    async with running_fleet(folder, latency_s=0.1) as fleet:
        await fleet.start_workers(1)
        slowest = 0.0
        for off_s in (OFF_S, -OFF_S):
            with wrong_clock(off_s):
                slowest = max(slowest, await _start_s(fleet, f"by {off_s}"))
                await _feed_expiring(fleet, f"soon by {off_s}", OFF_S / 10)
                await _feed_expiring(fleet, f"late by {off_s}", 0)
        ends = {}
        for off_s in (OFF_S, -OFF_S):
            for name in (f"soon by {off_s}", f"late by {off_s}"):
                await fleet.wait_for_rows(1, name, within=10)
                ends[name] = [row.status for row in await fleet.results(name)]
        await fleet.feed(range(5))
        await fleet.wait_for_rows(5)
        others = 2 + sum(end == [JobState.SUCCEEDED] for end in ends.values())
        report = await judge(fleet, "producers' clocks 10 min off", 5, extra=others)
        report.recovery_s = slowest
        report.expect("start delay <= 1 s", kept=slowest <= 1)
        for name, end in ends.items():
            due = [JobState.SUCCEEDED if name.startswith("soon") else JobState.EXPIRED]
            report.expect(f"{name}: {end}", kept=end == due)
        return report


async def workers_clocks(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Run workers with clocks ten minutes fast and slow, long calls, some retries."""
    jobs = 60 * scale
    async with running_fleet(folder, latency_s=1.5, lease_s=1.0) as fleet:
        await fleet.configure(faults=[{"status": 503, "share": 0.1}])
        await fleet.start_workers(1, ENTRIES / "skewed.py", f"{OFF_S}")
        await fleet.start_workers(1, ENTRIES / "skewed.py", f"{-OFF_S}")
        await fleet.feed(range(jobs))
        await fleet.wait_for_rows(jobs, within=60 * scale)
        stats = await fleet.stats()
        failed = stats["statuses"].get("503", 0)
        await fleet.configure(faults=[])
        slowest = max([await _start_s(fleet, f"now {n}") for n in range(3)])
        delays = [await _start_s(fleet, f"later {n}", DELAY_S) for n in range(3)]
        report = await judge(fleet, "workers' clocks 10 min off", jobs, extra=failed + 6)
        report.recovery_s = slowest
        report.expect("start delay <= 1 s", kept=slowest <= 1)
        late = [delay for delay in delays if not DELAY_S <= delay <= DELAY_S + 1]
        report.expect(f"delayed jobs start when due: {late}", kept=not late)
        lost = [
            row for row in await fleet.results() if any(a.outcome == "lost" for a in row.attempts)
        ]
        report.expect(f"no lease is lost: {lost[:1]}", kept=not lost)
        return report


@contextmanager
def wrong_clock(seconds: int) -> Iterator[None]:
    """Shift the clock that producers of this process read."""
    with pytest.MonkeyPatch.context() as patch:
        real_ns = time.time_ns
        patch.setattr(time, "time_ns", lambda: real_ns() + seconds * 1_000_000_000)
        yield


async def _start_s(fleet: Fleet, batch: str, delay_s: float = 0) -> float:
    """Enqueue a job; return the seconds until its call."""
    before = (await fleet.stats())["totals"]["calls"]
    began = time.monotonic()
    async with Producer(settings=fleet.settings) as producer:
        delay = timedelta(seconds=delay_s)
        await producer.enqueue(hello(batch), batch=batch, custom_id="a", delay=delay)

    async def called() -> bool:
        return bool((await fleet.stats())["totals"]["calls"] > before)

    await until(called)
    return time.monotonic() - began


async def _feed_expiring(fleet: Fleet, batch: str, seconds: float) -> None:
    async with Producer(settings=fleet.settings) as producer:
        expires = timedelta(seconds=seconds)
        await producer.enqueue(hello(batch), batch=batch, custom_id="a", expires=expires)


async def clock_step(folder: Path, rng: random.Random, scale: int) -> Report:
    """Step the wall clock of one worker by a day while its calls are open."""
    days = rng.choice((1, -1))
    async with running_fleet(folder, latency_s=0.3) as fleet:
        async with busy(fleet) as flow:
            await fleet.start_workers(1, ENTRIES / "stepped.py", f"{days * DAY_S}")
            [stepped] = fleet.workers
            await fleet.start_workers(1)
            await until(lambda: fleet.is_calling(SLOTS))
            before = await throughput(fleet, 2.0 * scale)
            stepped.send_signal(signal.SIGUSR1)
            await until(lambda: fleet.logged("clock stepped"))
            await asyncio.sleep(1.0 * scale)  # the calls that were open at the step have ended
            recovery_s = await until_throughput(fleet, SHARE * before)
        await fleet.wait_for_rows(flow.fed)
        report = await judge(fleet, f"a clock stepped by {days} day", flow.fed, extra=0)
        report.recovery_s = recovery_s
        bar = f"{SHARE:.0%} of {before:.0f}/s <= {BACK_S:.0f} s after"
        report.expect(bar, kept=recovery_s <= BACK_S)
        longest = max(row.call_ms for row in await fleet.results())
        report.expect(f"no call lasts a day: {longest} ms", kept=longest < DAY_S * 1000)
        return report
