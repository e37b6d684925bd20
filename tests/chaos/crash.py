"""Everything of a run is killed at once, as in a power cut; the same command goes on at once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nightmill.store import ResultStore
from tests.chaos.fleet import running_fleet
from tests.chaos.report import Report, judge
from tests.chaos.stops import running, unshared
from tests.rig import until

if TYPE_CHECKING:
    from collections.abc import Iterator

LEASE_S = 60
"""Much longer than the whole work: a lease that is waited for misses the bar."""
PATIENCE_S = 60


async def whole_run(folder: Path, rng: random.Random, scale: int) -> Report:
    """Kill supervisor, workers and embedded server in mid-run, and run the same command again."""
    jobs, home, kills = 200 * scale, folder / "home", 1 if scale == 1 else 3
    home.mkdir()
    async with running_fleet(folder, latency_s=0.3, lease_s=LEASE_S, max_in_flight=40) as fleet:
        env, extra, slowest = unshared(fleet, home), 0, 0.0
        for kill in range(kills):
            async with running(home, env, jobs) as run:
                began = time.monotonic()
                goal = (kill + 1) * jobs // (kills + 1)
                await until(lambda: _rows_are(home, goal), within=PATIENCE_S)  # noqa: B023
                await asyncio.sleep(rng.random() / 4)
                _kill_all(home)
                run.wait()
                slowest = max(slowest, time.monotonic() - began)
            calls = await fleet.quiet()
            extra = calls - await _rows(home)
        async with running(home, env, jobs) as run:
            began = time.monotonic()
            code = await asyncio.to_thread(run.wait, PATIENCE_S)
            took_s = time.monotonic() - began
        async with ResultStore.open(home / ".nightmill" / "results.db") as fleet.store:
            report = await judge(fleet, "SIGKILL of a whole run", jobs, extra=extra)
    report.recovery_s = took_s
    report.expect(f"the same command ends well: {code}", kept=code == 0)
    report.expect(f"no lease of {LEASE_S} s is waited for: {took_s:.1f} s", kept=took_s < LEASE_S)
    return report


async def _rows(home: Path) -> int:
    path = home / ".nightmill" / "results.db"
    if not path.exists():
        return 0
    async with ResultStore.open(path) as store:
        return sum((await store.counts("night")).values())


async def _rows_are(home: Path, count: int) -> bool:
    return await _rows(home) >= count


def _kill_all(home: Path) -> None:
    """Kill every process of the folder, each at once, until none is left."""
    while pids := list(_pids(home)):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _pids(home: Path) -> Iterator[int]:
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            command = (path / "cmdline").read_bytes()
            if command and str(home) in f"{command.decode()} {(path / 'cwd').readlink()}":
                yield int(path.name)
