"""`python -m tests.scenarios [part of a name]`: play the scenarios and print two tables."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.scenarios.scenario import HERE, Expect, Found, Scenario, load, play

WIDTH = 46


def line(scenario: Scenario, wanted: Expect, runs: list[Found]) -> tuple[str, bool]:
    """Format one row: means and worst values over the seeds, and which ranges were missed."""
    mean = sum(run.utilisation for run in runs) / len(runs)
    share = sum(run.refused for run in runs) / len(runs)
    missed = sorted({miss for run in runs for miss in run.misses(wanted)})
    asked = []
    if wanted.reach is not None:
        asked.append(f"95% after {max(r.reach for r in runs):.0f} s (<= {wanted.reach:.0f})")
    if wanted.done is not None:
        asked.append(f"done in {max(r.done for r in runs):.1f} s (<= {wanted.done})")
    if wanted.rate is not None:
        asked.append(f"{min(r.rate for r in runs):.0f}/s (>= {wanted.rate:.0f})")
    if wanted.cap_rate is not None:
        asked.append(f"{max(r.rate for r in runs):.2f}/s (<= {wanted.cap_rate})")
    if wanted.in_flight is not None:
        asked.append(f"{min(r.in_flight for r in runs)} in flight (>= {wanted.in_flight})")
    if wanted.failed is not None:
        asked.append(f"{max(r.failed for r in runs)} failed (<= {wanted.failed})")
    if wanted.calls is not None:
        asked.append(f"{max(r.calls for r in runs)} calls (<= {wanted.calls})")
    fair = min(run.fairness for run in runs)
    span = f"{wanted.after:.0f}-{wanted.until:.0f}"
    verdict = "ok" if not missed else "MISSED " + ", ".join(missed)
    refusals = max(run.refusals for run in runs)
    text = (
        f"{scenario.name:{WIDTH}} {span:>9} {mean:6.1f} {share:6.2f} {refusals:5d} {fair:6.3f}"
        f"  {'; '.join(asked):42} {verdict}"
    )
    return text, not missed


def rows(scenario: Scenario) -> list[tuple[str, bool]]:
    """Play one scenario with all its seeds."""
    runs = [play(scenario, seed) for seed in scenario.seeds]
    return [
        line(scenario, wanted, [run[i] for run in runs]) for i, wanted in enumerate(scenario.expect)
    ]


def table(title: str, folder: Path, part: str) -> bool:
    """Play and print a folder; return whether all rows are in range."""
    head = f"{'s':>9} {'util%':>6} {'429%':>6} {'429s':>5} {'Jain':>6}  figures"
    print(f"\n{title}\n{'scenario':{WIDTH}} {head}", flush=True)
    good = True
    scenarios = [s for s in load(folder) if part in s.name]
    with ProcessPoolExecutor() as pool:
        for found in pool.map(rows, scenarios):
            for text, ok in found:
                print(text, flush=True)
                good &= ok
    return good


def main() -> int:
    """Print both tables. Return 1 when a row is out of its range, else 0."""
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    tuned = table("Scenarios used for tuning", HERE, part)
    judged = table("Scenarios that judge (the law was never tuned on them)", HERE / "judge", part)
    return 0 if tuned and judged else 1


if __name__ == "__main__":
    sys.exit(main())
