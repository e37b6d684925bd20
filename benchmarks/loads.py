"""The scenarios under load: every contender over the same course, in turns."""

from __future__ import annotations

from typing import Final

import msgspec

from benchmarks.endpoint import Endpoint
from benchmarks.race import Course, Figures, medians, race
from benchmarks.table import Table, times

ALL: Final = ("bare loop", "gather", "stock arq", "nightmill")
HEADS: Final = (
    "contender",
    "jobs/s",
    "jobs/s while full",
    "slots busy %",
    "most in flight",
    "CPU us/job",
    "x bare loop",
    "Redis commands/job",
    "server CPU us/job",
    "peak RSS MB",
)


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """A course and a shorter one, who runs it and how often, and what a reader must know."""

    course: Course
    quick: Course
    contenders: tuple[str, ...]
    rounds: int = 3
    remark: str = ""


# nightmill's window starts small: *most in flight* tells whether a course was long enough for it.
LOADS: Final = {
    "cpu": Load(
        course=Course(processes=1, slots=1000, latency_s=1, jobs=60_000),
        quick=Course(processes=1, slots=1000, latency_s=1, jobs=4000),
        contenders=ALL,
        rounds=2,
    ),
    "fleet": Load(
        course=Course(processes=4, slots=500, latency_s=2, jobs=40_000),
        quick=Course(processes=4, slots=125, latency_s=1, jobs=2000),
        contenders=("bare loop", "stock arq", "nightmill"),
        rounds=1,
    ),
    "wide": Load(
        course=Course(processes=20, slots=100, latency_s=2, jobs=40_000),
        quick=Course(processes=20, slots=25, latency_s=1, jobs=2000),
        contenders=("bare loop", "nightmill"),
        rounds=1,
        remark=" Stock arq is left out: 20 of its workers on two cores do about 50 jobs/s.",
    ),
    "memory": Load(
        course=Course(processes=1, slots=2000, latency_s=2, jobs=10_000, size=2000),
        quick=Course(processes=1, slots=2000, latency_s=1, jobs=10_000, size=2000),
        contenders=("bare loop", "nightmill"),
        rounds=1,
    ),
}


async def run_load(name: str, endpoint: Endpoint, *, quick: bool) -> Table:
    """Run the load `name`; in turns, so that a noisy minute hits every contender."""
    load = LOADS[name]
    course = load.quick if quick else load.course
    runs: dict[str, list[Figures]] = {contender: [] for contender in load.contenders}
    for _ in range(1 if quick else load.rounds):
        for contender in load.contenders:
            runs[contender].append(await race(course, contender, endpoint))
    return _table(
        name, course, load.remark, {who: medians(figures) for who, figures in runs.items()}
    )


def _table(name: str, course: Course, remark: str, figures: dict[str, Figures]) -> Table:
    c = course
    base = figures["bare loop"].cpu_us
    return Table(
        title=name,
        what=f"{c.jobs:,} prompts of {c.size:,} B, {c.processes} x {c.slots:,} slots, "
        f"calls of {c.latency_s:g} s.{remark}",
        heads=HEADS,
        rows=tuple(_row(who, f, base) for who, f in figures.items()),
    )


def _row(contender: str, f: Figures, base: float) -> tuple[str, ...]:
    queued = contender in {"stock arq", "nightmill"}
    return (
        contender,
        f"{f.jobs_per_s:,.0f}",
        f"{f.steady_jobs_per_s:,.0f}" if f.busy else "-",
        (f"{f.busy * 100:.1f}" if f.busy else "-") + ("" if f.full else "*"),
        f"{f.most_in_flight:,.0f}",
        f"{f.cpu_us:,.0f}",
        times(f.cpu_us, base),
        f"{f.commands:.1f}" if queued else "-",
        f"{f.server_us:,.0f}" if queued else "-",
        f"{f.rss_mb:,.0f}",
    )
