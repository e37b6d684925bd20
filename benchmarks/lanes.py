"""Cold starts of real worker processes at an endpoint whose limits are not configured."""

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
from benchmarks.table import Table

PER_MINUTE: Final = 60
PLAIN: Final[dict[str, object]] = {"rpm": None, "otpm": None, "burst": None, "cap": None}


class Case(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An endpoint's limits, and the work. Times are from the first request to the last response."""

    name: str
    jobs: int
    latency_s: float
    """Length of a call, seconds."""
    rps: float | None = None
    """Requests a second."""
    burst: int | None = None
    """Requests that the bucket holds."""
    cap: int | None = None
    """Calls in flight at most."""
    otpm: int | None = None
    """Output tokens a minute."""
    headers: bool = True
    """Whether headers report the limits."""
    processes: int = 2
    bar_s: float | None = None
    """The longest time that we accept, seconds."""

    @property
    def floor_s(self) -> float:
        """Return the shortest time that these limits allow, seconds."""
        if self.rps:
            return max(0, self.jobs - (self.burst or 0)) / self.rps + self.latency_s
        if self.cap:
            return self.jobs / self.cap * self.latency_s
        if self.otpm:
            return (self.jobs * TOKENS - self.otpm) / self.otpm * PER_MINUTE + self.latency_s
        return self.latency_s


TOKENS: Final = 50
"""Output tokens of every answer: max_tokens of its request."""
CASES: Final = msgspec.convert(
    tomllib.loads(Path(__file__).with_suffix(".toml").read_text())["case"], tuple[Case, ...]
)


class _Totals(msgspec.Struct, frozen=True):
    calls: int
    answered: int
    refused: int


class _Stats(msgspec.Struct, frozen=True):
    totals: _Totals
    max_in_flight: int
    first_request_at: float
    last_response_at: float
    answered_more_than_once: int


async def run_lanes(there: Endpoint, *, quick: bool) -> Table:
    """Run every case (`quick`: the first four) with `nightmill run` and no configured limits."""
    rows = [await _row(case, there) for case in (CASES[:4] if quick else CASES)]
    await there.configure(**PLAIN, headers=True, jitter=0)
    return Table(
        title="lanes: limits that are not configured",
        what="`nightmill run`, seconds from the first request to the last response.",
        heads=(
            "endpoint",
            "jobs",
            "took s",
            "floor s",
            "bar s",
            "refused",
            "lost",
            "twice",
            "peak",
        ),
        rows=tuple(rows),
    )


async def _row(case: Case, there: Endpoint) -> tuple[str, ...]:
    await there.prepare(case.latency_s)
    rpm = None if case.rps is None else round(case.rps * PER_MINUTE)
    limits = {"rpm": rpm, "burst": case.burst, "cap": case.cap, "otpm": case.otpm}
    await there.configure(**{**PLAIN, **limits}, headers=case.headers, jitter=0.1)
    with tempfile.TemporaryDirectory(prefix="nm-lanes-") as folder:
        done = await _run(case, there, Path(folder))
    stats = msgspec.json.decode(await there.ask("/admin/stats"), type=_Stats)
    took_s = stats.last_response_at - stats.first_request_at
    return (
        case.name,
        f"{case.jobs:,}",
        f"{took_s:.1f}",
        f"{case.floor_s:.1f}",
        "-" if case.bar_s is None else f"{case.bar_s:g}",
        f"{stats.totals.refused:,}",
        f"{case.jobs - done:,}",
        f"{stats.answered_more_than_once:,}",
        f"{stats.max_in_flight:,}",
    )


async def _run(case: Case, there: Endpoint, folder: Path) -> int:
    """Run the case in `folder`; return the number of results."""
    lines = ({"prompt": f"say {n}", "max_tokens": TOKENS} for n in range(case.jobs))
    (folder / "in.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("nightmill")),
        *("run", "in.jsonl", "-o", "out.jsonl", "--processes", str(case.processes)),
        cwd=folder,
        env={**os.environ, "NIGHTMILL_BASE_URL": there.url, "NIGHTMILL_API_KEY": "bench"},
        stderr=asyncio.subprocess.DEVNULL,
    )
    await process.wait()
    out = folder / "out.jsonl"
    return out.read_bytes().count(b'"type":"succeeded"') if out.exists() else 0
