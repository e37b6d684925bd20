"""The scenarios under load: every contender runs the same workload, in turns."""

from __future__ import annotations

from typing import Final

import msgspec

from benchmarks.endpoint import Endpoint
from benchmarks.measure import Figures, Workload, measure, medians
from benchmarks.table import Table, times

ALL: Final = ("bare loop", "own loop", "gather", "stock arq", "nightmill")
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
    """One scenario."""

    workload: Workload
    quick: Workload
    """A shorter one, for `--quick`."""
    contenders: tuple[str, ...]
    rounds: int = 3
    """Runs of every contender; the table has the medians."""
    remark: str = ""
    """Added to the line above the table."""


# nightmill's window starts small. *most in flight* shows whether a workload was long enough to fill
# the slots.
LOADS: Final = {
    "cpu": Load(
        workload=Workload(processes=1, slots=1000, latency_s=1, jobs=40_000),
        quick=Workload(processes=1, slots=1000, latency_s=1, jobs=4000),
        contenders=ALL,
        rounds=2,
    ),
    "fleet": Load(
        workload=Workload(processes=4, slots=500, latency_s=2, jobs=40_000),
        quick=Workload(processes=4, slots=125, latency_s=1, jobs=2000),
        contenders=("bare loop", "stock arq", "nightmill"),
        rounds=1,
    ),
    "wide": Load(
        workload=Workload(processes=20, slots=100, latency_s=2, jobs=40_000),
        quick=Workload(processes=20, slots=25, latency_s=1, jobs=2000),
        contenders=("bare loop", "nightmill"),
        rounds=1,
        remark=" Stock arq is left out: 20 of its workers on two cores do about 50 jobs/s.",
    ),
    "memory": Load(
        workload=Workload(processes=1, slots=2000, latency_s=2, jobs=10_000, size=2000),
        quick=Workload(processes=1, slots=2000, latency_s=1, jobs=10_000, size=2000),
        contenders=("bare loop", "nightmill"),
        rounds=1,
    ),
}


async def run_load(name: str, endpoint: Endpoint, *, quick: bool) -> Table:
    """Run the scenario `name`. Contenders take turns, so that a busy minute affects them all."""
    load = LOADS[name]
    workload = load.quick if quick else load.workload
    runs: dict[str, list[Figures]] = {contender: [] for contender in load.contenders}
    for _ in range(1 if quick else load.rounds):
        for contender in load.contenders:
            runs[contender].append(await measure(workload, contender, endpoint))
    return _table(
        name, workload, load.remark, {each: medians(figures) for each, figures in runs.items()}
    )


def _table(name: str, workload: Workload, remark: str, figures: dict[str, Figures]) -> Table:
    c = workload
    base = figures["bare loop"].cpu_us
    return Table(
        title=name,
        what=f"{c.jobs:,} prompts of {c.size:,} B, {c.processes} x {c.slots:,} slots, "
        f"calls of {c.latency_s:g} s.{remark}",
        heads=HEADS,
        rows=tuple(_row(each, f, base) for each, f in figures.items()),
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
