"""The outcome of a fault, in the numbers of the reliability table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.fleet import Fleet


@dataclass
class Report:
    """The outcome of one fault."""

    fault: str
    jobs: int
    lost: int = 0
    """Jobs without a row."""
    duplicates: int = 0
    """Rows beyond one a job."""
    extra_calls: int = 0
    """Calls beyond one a job."""
    recovery_s: float | None = None
    """Time until work goes on; None: the row does not measure it."""
    missed: list[str] = field(default_factory=list)
    """The bars that were missed."""

    def expect(self, bar: str, *, kept: bool) -> None:
        """Record the bar as missed unless it was kept."""
        if not kept:
            self.missed.append(bar)


async def judge(fleet: Fleet, fault: str, jobs: int, *, extra: int | None = None) -> Report:
    """Compare rows, calls and exit codes with the jobs; `extra` calls are allowed (None: any)."""
    rows, calls = await fleet.results(), await fleet.calls()
    ids = [row.job_id for row in rows]
    report = Report(
        fault=fault,
        jobs=jobs,
        lost=jobs - len(set(ids)),
        duplicates=len(ids) - len(set(ids)),
        extra_calls=sum(count["calls"] for count in calls.values()) - jobs,
    )
    failed = [row for row in rows if row.status != "succeeded"]
    report.expect("0 lost", kept=not report.lost)
    report.expect("0 duplicate rows", kept=not report.duplicates)
    why = [(row, row.error, row.attempts) for row in failed[:3]]
    report.expect(f"every job succeeds: {why}", kept=not failed)
    crashed = fleet.crashed()
    report.expect(f"no worker exits by itself: {crashed}", kept=not crashed)
    report.expect("every exit code is 0", kept=not any(fleet.exits))
    if extra is not None:
        report.expect(f"<= {extra} extra calls", kept=report.extra_calls <= extra)
    return report


def table(reports: list[Report]) -> str:
    """Return the reports as lines of a table."""
    head = f"{'fault':44} {'jobs':>6} {'lost':>5} {'dup':>4} {'extra':>6} {'recovery':>9}"
    lines = [head, "-" * len(head)]
    for r in reports:
        recovery = "" if r.recovery_s is None else f"{r.recovery_s:.1f} s"
        numbers = f"{r.jobs:6} {r.lost:5} {r.duplicates:4} {r.extra_calls:6} {recovery:>9}"
        lines.append(f"{r.fault:44} {numbers}  {'; '.join(r.missed)}".rstrip())
    return "\n".join(lines)
