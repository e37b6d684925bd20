"""Cold starts with long calls, beside a pacer that knows the limit (without one: a bare loop)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.endpoint import Endpoint
from benchmarks.table import Table, times

PROCESSES: Final = 2
SLOTS: Final = 1000
"""Calls in flight of one process at most."""
PER_MINUTE: Final = 60
QUICK: Final = 3
"""Cases of a quick run: the last ones, whose calls are not the longest."""


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An endpoint's limit, and the work."""

    name: str
    jobs: int
    latency_s: float
    """Mean length of a call, seconds."""
    rpm: int | None = None
    burst: int | None = None
    """Requests that the bucket holds; None: those of a second."""
    headers: bool = False
    """Whether headers report the limit."""
    known: bool = False
    """Whether the operator sets the limit."""
    bar: float
    """The longest time that we accept, as a multiple of the pacer's."""


class _Totals(msgspec.Struct, frozen=True):
    refused: int


class _Stats(msgspec.Struct, frozen=True):
    totals: _Totals
    first_request_at: float
    last_response_at: float

    @property
    def took_s(self) -> float:
        return self.last_response_at - self.first_request_at


CASES: Final = msgspec.convert(
    tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["case"], tuple[Case, ...]
)


async def run_long(there: Endpoint, *, quick: bool) -> Table:
    """Run every case (`quick`: the last three) with nightmill and with the pacer."""
    rows = [await _row(case, there) for case in (CASES[-QUICK:] if quick else CASES)]
    await there.configure(rpm=None, burst=None, headers=True, jitter=0)
    return Table(
        title="long: cold starts with long calls",
        what=f"{PROCESSES} processes with {SLOTS:,} slots. Seconds from the first request to the "
        "last response. The pacer knows the limit; without one it is a bare loop.",
        heads=("endpoint", "jobs", "call s", "took s", "pacer s", "ratio", "bar", "refused"),
        rows=tuple(rows),
    )


async def _row(case: Case, there: Endpoint) -> tuple[str, ...]:
    with tempfile.TemporaryDirectory(prefix="nm-long-") as folder:
        ours = await _measured(case, there, [_nightmill(case, Path(folder))], folder)
        pacer = await _measured(case, there, [_pacer(case, there.url)] * PROCESSES, folder)
    return (
        case.name,
        f"{case.jobs:,}",
        f"{case.latency_s:g}",
        f"{ours.took_s:.1f}",
        f"{pacer.took_s:.1f}",
        times(ours.took_s, pacer.took_s),
        f"{case.bar:.2f}",
        f"{ours.totals.refused:,}",
    )


async def _measured(case: Case, there: Endpoint, commands: list[list[str]], folder: str) -> _Stats:
    """Run the commands together at an endpoint that has forgotten all; return what it counted."""
    await there.prepare(case.latency_s)
    burst = case.burst or (case.rpm and max(1, case.rpm // PER_MINUTE))
    await there.configure(rpm=case.rpm, burst=burst, headers=case.headers, jitter=0.3)
    env = {**os.environ, "NIGHTMILL_BASE_URL": there.url, "NIGHTMILL_API_KEY": "bench"}
    env["PYTHONPATH"] = os.pathsep.join((str(Path.cwd()), os.environ.get("PYTHONPATH", "")))
    if case.known:
        env["NIGHTMILL_RPM"] = str(case.rpm)
    started = [
        await asyncio.create_subprocess_exec(
            *command, cwd=folder, env=env, stderr=asyncio.subprocess.DEVNULL
        )
        for command in commands
    ]
    for process in started:
        await process.wait()
    return msgspec.json.decode(await there.ask("/admin/stats"), type=_Stats)


def _nightmill(case: Case, folder: Path) -> list[str]:
    lines = ({"prompt": f"say {n}", "max_tokens": 50} for n in range(case.jobs))
    (folder / "in.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    program = str(Path(sys.executable).with_name("nightmill"))
    return [program, "run", "in.jsonl", "-o", "out.jsonl", "--processes", str(PROCESSES)]


def _pacer(case: Case, url: str) -> list[str]:
    rate = (case.rpm or 0) / PER_MINUTE / PROCESSES
    slots = SLOTS if case.rpm is None else case.jobs
    words = (url, case.jobs // PROCESSES, rate, slots)
    return [sys.executable, "-m", "benchmarks.pacer", *map(str, words)]
