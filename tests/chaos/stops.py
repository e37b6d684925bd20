"""Faults at the end of processes: stops while a server is away, a group stop, a crash loop."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.store import ResultStore
from tests.chaos.fleet import ENTRIES, SUPERVISED, Fleet, running_fleet
from tests.chaos.report import Report, judge
from tests.chaos.store import fill_disk
from tests.rig import hello, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

OPEN: Final = 12
"""Calls that are open when Redis goes away."""
ONE_STOP_S: Final = 2.0
"""Two signals within this time count as one stop."""
CRASH: Final = "the library of the worker is broken"
DYING: Final = "workers keep dying at start"
GIVE_UP_S: Final = 200.0
"""A supervisor gives up after 10 deaths, with growing waits between them."""
RUN: Final = (sys.executable, "-m", "nightmill")


async def redis_away_stop(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Kill Redis, answer 12 open calls, then SIGTERM: every answer is saved before the exit."""
    stops = 1 if scale == 1 else 5
    jobs, saved, slowest = OPEN * stops, [], 0.0
    async with running_fleet(folder, latency_s=1.0, canary=0) as fleet:
        worker = fleet.start_worker()
        for stop in range(stops):
            await fleet.feed(range(OPEN * stop, OPEN * (stop + 1)))
            await until(lambda: fleet.is_calling(OPEN))
            await fleet.is_written()
            fleet.kill_valkey()
            await until(partial(_has_answered, fleet, OPEN * (stop + 1)))
            slowest = max(slowest, await fleet.end(worker))
            saved.append(len(await fleet.saved()) - OPEN * stop)
            await fleet.start_valkey()
            worker = fleet.start_worker()
            await fleet.wait_for_rows(OPEN * (stop + 1))
        report = await judge(fleet, "Redis away, then SIGTERM", jobs, extra=0)
        kept = saved == [OPEN] * stops
        report.expect(f"every answer is in the store or the spool: {saved} of {OPEN}", kept=kept)
        report.expect(f"exit <= 5 s: {slowest:.1f}", kept=slowest <= 5)
        return report


async def _has_answered(fleet: Fleet, count: int) -> bool:
    return bool((await fleet.stats())["totals"]["answered"] >= count)


async def group_stop(folder: Path, rng: random.Random, scale: int) -> Report:
    """SIGTERM the supervisor and its workers at once, as systemd does: open calls finish."""
    stops = 1 if scale == 1 else 5
    jobs, cut, signals = 60 * stops, [], rng.choice((1, 2))
    async with running_fleet(folder, latency_s=1.5, canary=0, grace_s=10) as fleet:
        await fleet.feed(range(jobs))
        for _ in range(stops):
            supervisor = fleet.start_worker(*SUPERVISED)
            await until(lambda: fleet.is_calling(20))
            processes = [supervisor.pid, *descendants(supervisor.pid)]
            rng.shuffle(processes)
            for pid in processes * signals:
                os.kill(pid, signal.SIGTERM)
            fleet.exits.append(await fleet.wait_for_exit(supervisor))
            cut.append((await fleet.stats())["totals"]["calls"] - len(await fleet.saved()))
        await fleet.start_workers(2)
        await fleet.wait_for_rows(jobs)
        report = await judge(fleet, "SIGTERM to the whole process group", jobs, extra=0)
        report.expect(f"every open call finishes: {cut} cut off", kept=not any(cut))
        return report


def descendants(pid: int) -> list[int]:
    """Return the process ids of a process's children, and of theirs."""
    parents = dict(_parents())
    found = [pid]
    for parent in found:
        found += [child for child, of in parents.items() if of == parent]
    return found[1:]


def _parents() -> Iterator[tuple[int, int]]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        yield int(path.parent.name), int(fields[1])


async def full_disk_stop(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Fill the disks of store and spool, then SIGTERM: no process drops its answers silently."""
    jobs = 120 * scale
    (folder / "spool").write_text("a file where the spool directory should be")
    async with running_fleet(folder, latency_s=0.3) as fleet:
        full = await fill_disk(fleet, jobs)
        unsaved = await fleet.quiet() - await fleet.rows()
        first, second = fleet.workers
        for worker in (first, second):
            worker.send_signal(signal.SIGTERM)
        await until(lambda: all(fleet.logged("answers unsaved", each) for each in (first, second)))
        answers = [_unsaved(fleet, each) for each in (first, second)]
        await asyncio.sleep(ONE_STOP_S + 0.2)
        stays = first.poll() is second.poll() is None
        await fleet.end(first)
        code = fleet.exits.pop()
        full.unlink()
        (folder / "spool").unlink()
        fleet.exits.append(await fleet.wait_for_exit(second))  # it needs no second signal
        await fleet.start_workers(2)
        await fleet.wait_for_rows(jobs)
        report = await judge(fleet, "both disks full, then SIGTERM", jobs, extra=answers[0])
    report.expect("the process stays until the second signal", kept=stays)
    report.expect(f"then its exit code is 1: {code}", kept=code == 1)
    report.expect(f"{answers} of {unsaved} reported as unsaved", kept=sum(answers) == unsaved)
    return report


def _unsaved(fleet: Fleet, worker: subprocess.Popen[bytes]) -> int:
    return int(fleet.logged("answers unsaved", worker)[-1]["answers"])


async def crash_loop(folder: Path, _rng: random.Random, scale: int) -> Report:
    """Have `run`'s workers raise at their start: `run` and `status` show why, no server is left.

    The first run is stopped, in the long form it gives up by itself; the second one is killed.
    """
    jobs, home = 5, folder / "home"
    home.mkdir()
    async with running_fleet(folder, latency_s=0.1) as fleet:
        env = _broken(fleet, home)
        began = time.monotonic()
        async with running(home, env, jobs) as run:
            await until(lambda: DYING in _log(home), within=GIVE_UP_S)
            shown_s = time.monotonic() - began
            status = _output(home, env, "status")
            if scale == 1:
                run.send_signal(signal.SIGTERM)
            code = await asyncio.to_thread(run.wait, GIVE_UP_S)
            shown = CRASH in _log(home)
            stopped = not server_runs(home)
        async with running(home, env, jobs) as run:
            await until(lambda: _log(home).count(CRASH), within=GIVE_UP_S)
            run.kill()
            with suppress(TimeoutError):
                await until(lambda: not server_runs(home))
            gone = not server_runs(home)
        (home / "repaired").touch()
        async with running(home, env, jobs) as run:
            last = await asyncio.to_thread(run.wait, 60)
        async with ResultStore.open(home / ".nightmill" / "results.db") as fleet.store:
            report = await judge(fleet, "workers that crash at their start", jobs, extra=0)
    report.recovery_s = shown_s
    report.expect("run shows the exception", kept=shown)
    report.expect(f"status shows the exception: {status}", kept=DYING in status and CRASH in status)
    report.expect(f"run exits with a code but 0: {code}", kept=code != 0)
    report.expect("the embedded server of a stopped run is stopped", kept=stopped)
    report.expect("the embedded server of a killed run is stopped", kept=gone)
    report.expect(f"the repaired run ends well: {last}", kept=last == 0)
    return report


@asynccontextmanager
async def running(
    home: Path, env: dict[str, str], jobs: int
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run `nightmill run` on a file of jobs for the length of a block; it writes run.log."""
    lines = (msgspec.json.encode({"custom_id": f"{n}", **hello(f"{n}")}) for n in range(jobs))
    (home / "night.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    with (home / "run.log").open("wb") as log:
        run = subprocess.Popen(  # noqa: ASYNC220 - starting one takes a millisecond
            [*RUN, "run", "night.jsonl"],
            cwd=home,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield run
    finally:
        run.kill()
        run.wait()


def _log(home: Path) -> str:
    return (home / "run.log").read_text()


def unshared(fleet: Fleet, home: Path) -> dict[str, str]:
    """Return an environment whose commands use an embedded server and a store of their own."""
    ours = {k: v for k, v in fleet.settings.to_env().items() if "REDIS_URL" not in k}
    return {**os.environ, **ours, "NIGHTMILL_DATA_DIR": str(home / ".nightmill")}


def _broken(fleet: Fleet, home: Path) -> dict[str, str]:
    """Return such an environment with workers that raise."""
    path = os.pathsep.join([str(ENTRIES / "crashing"), os.environ.get("PYTHONPATH", "")])
    repaired = str(home / "repaired")
    return {**unshared(fleet, home), "PYTHONPATH": path, "CRASH_UNLESS": repaired}


def _output(home: Path, env: dict[str, str], *command: str) -> str:
    done = subprocess.run(
        [*RUN, *command], cwd=home, env=env, capture_output=True, check=False, text=True
    )
    return done.stdout + done.stderr


def server_runs(home: Path) -> bool:
    """Tell whether an embedded server of this folder runs."""
    ours = str(home).encode()
    return any(
        b"valkey-server" in line and ours in line
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if (line := _read(path))
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""
