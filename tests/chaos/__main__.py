"""`python -m tests.chaos` runs the faults and prints a table; exit code 1 when a bar is missed."""

from __future__ import annotations

import argparse
import signal
import sys

from tests.chaos.faults import ROWS
from tests.chaos.report import table
from tests.chaos.runner import interrupt, run_all

INTERRUPTED = 130
LONG = 10
"""How many times more jobs and faults the long form has."""


def main() -> int:
    """Run the rows that the command line names; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*", choices=[*ROWS, []], help="rows to run (default: all)")
    parser.add_argument(
        "--seeds", type=int, help="runs of each row (default: 10 for kill_nine, 3 for the others)"
    )
    parser.add_argument("--short", action="store_true", help="the short form, as in `make test`")
    parser.add_argument(
        "--parallel", type=int, default=2, help="rows at once; rows with tight times run alone (2)"
    )
    args = parser.parse_args()
    tasks = [
        (name, seed, 1 if args.short else LONG)
        for name in args.faults or ROWS
        for seed in range(args.seeds or ROWS[name].seeds)
    ]
    alone = [task for task in tasks if ROWS[task[0]].alone]
    others = [task for task in tasks if task not in alone]
    signal.signal(signal.SIGTERM, interrupt)
    try:
        reports = run_all(others, args.parallel) + run_all(alone, 1)
    except KeyboardInterrupt:
        return INTERRUPTED
    print("\n" + table(reports))
    return int(any(report.missed for report in reports))


if __name__ == "__main__":
    sys.exit(main())
