"""`python -m tests.chaos`: every fault at length, and a table; exit 1 when a bar is missed."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos.faults import ROWS
from tests.chaos.report import Report, table

LONG = 10
"""How many times more jobs and faults than in the short form."""


async def once(name: str, seed: int) -> Report:
    """Run one fault with one seed; a mill that hangs is a bar missed, not an error."""
    with tempfile.TemporaryDirectory(prefix="nm-") as folder:
        try:
            report = await ROWS[name].fault(Path(folder), random.Random(seed), LONG)
        except (TimeoutError, ExceptionGroup) as error:
            report = Report(fault=name, jobs=0, missed=[repr(error)])
    report.fault += f" #{seed}"
    print(table([report]).splitlines()[-1], flush=True)
    return report


def main() -> int:
    """Run what is asked for; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faults", nargs="*", choices=[*ROWS, []], help="default: all")
    parser.add_argument("--seeds", type=int, help="default: 10 for kill_nine, 3 for the others")
    asked = parser.parse_args()
    reports = [
        asyncio.run(once(name, seed))
        for name in asked.faults or ROWS
        for seed in range(asked.seeds or ROWS[name].seeds)
    ]
    print("\n" + table(reports))
    return int(any(report.missed for report in reports))


if __name__ == "__main__":
    sys.exit(main())
