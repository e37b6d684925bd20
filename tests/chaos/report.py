"""What a fault did, in the numbers that are promised."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.chaos.mill import Mill


@dataclass
class Report:
    """One fault's outcome; `missed` names the bars it did not keep."""

    fault: str
    jobs: int
    lost: int = 0
    duplicates: int = 0
    extra_calls: int = 0
    recovery_s: float | None = None
    missed: list[str] = field(default_factory=list)

    def expect(self, what: str, *, kept: bool) -> None:
        """Note a bar that was missed."""
        if not kept:
            self.missed.append(what)


async def judge(mill: Mill, fault: str, jobs: int, *, extra: int | None = None) -> Report:
    """Compare rows, calls and exits with what was fed; `extra` calls are allowed (None: any)."""
    rows, calls = await mill.results(), await mill.calls()
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
    report.expect(f"0 not succeeded: {failed[:3]}", kept=not failed)
    report.expect("0 workers ended by themselves", kept=not mill.crashed())
    report.expect("0 exit codes but 0", kept=not any(mill.exits))
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
