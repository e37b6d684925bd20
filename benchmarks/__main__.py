"""Run the benchmarks: `python -m benchmarks [--quick] [names...]`; see --help."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.control import run_control
from benchmarks.depth import run_depth
from benchmarks.endpoint import Endpoint, endpoint
from benchmarks.feed import run_feed
from benchmarks.filling import run_enqueue
from benchmarks.grant import run_grant
from benchmarks.lanes import run_lanes
from benchmarks.latency import run_latency
from benchmarks.loads import LOADS, run_load
from benchmarks.machine import busy_with_others, describe
from benchmarks.table import Table

RESULTS: Final = Path(__file__).with_name("RESULTS.md")
NAMES: Final = (
    *("cpu", "fleet", "wide", "enqueue", "latency", "grant"),
    *("depth", "memory", "lanes", "feed", "control"),
)
INTERRUPTED: Final = 130
NOTES: Final = """\
Every contender runs in processes of its own (uvloop) against one simulated endpoint in another
process, on this one machine; nightmill's are its real workers: validation, limiter, store and logs
are on. Figures are of one round; of two, in turns, in `cpu`; medians of three in `enqueue`.

- *CPU us/job*: user + system time of the worker processes over all jobs; start-up is left out.
- *while full*, *slots busy*: from the moment the slots are first full until the queue is shorter
  than the slots, by the endpoint's own count of calls in flight. nightmill's window starts
  small and grows, so its *jobs/s* of such short runs is lower than what it settles at.
  A star marks slots that were never 95 % full (or only when the queue had run short): what
  stands there begins at 95 % of the most that contender reached, and flatters it.
- *Redis commands/job*: all that the server executed, those inside scripts included.
"""


def main() -> int:
    """Run what the command line names, print the tables, write RESULTS.md after a full run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller, one round, under 3 minutes")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of: {', '.join(NAMES)}")
    args = parser.parse_args()
    if unknown := set(args.names) - set(NAMES):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}; there are {NAMES}")
    for name in [name for name in os.environ if name.startswith(("NIGHTMILL_", "ANTHROPIC_"))]:
        del os.environ[name]  # the user's limits and credentials have no part in this
    others = busy_with_others()
    print(f"{describe()}\n\n{others}\n", flush=True)
    try:
        tables = uvloop.run(_run(args.names or NAMES, quick=args.quick))
    except (asyncio.CancelledError, KeyboardInterrupt):
        return INTERRUPTED
    if not args.quick and not args.names:
        parts = ["# What it costs", describe(), others, NOTES, *map(str, tables)]
        RESULTS.write_text("\n\n".join(parts).replace("\n\n\n", "\n\n"), encoding="utf-8")
    return 0


async def _run(names: list[str] | tuple[str, ...], *, quick: bool) -> list[Table]:
    tables = []
    if task := asyncio.current_task():  # so that everything is put away
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with endpoint() as there:
        for name in names:
            began = time.perf_counter()
            tables.append(await _scenario(name, there, quick=quick))
            print(f"{tables[-1]}\n({name}: {time.perf_counter() - began:.0f} s)\n", flush=True)
    return tables


async def _scenario(name: str, there: Endpoint, *, quick: bool) -> Table:
    if name in LOADS:
        return await run_load(name, there, quick=quick)
    if name == "lanes":
        return await run_lanes(there, quick=quick)
    if name == "depth":
        return await run_depth(there, quick=quick)
    if name == "control":
        return await run_control(there, quick=quick)
    alone = {"enqueue": run_enqueue, "latency": run_latency, "grant": run_grant, "feed": run_feed}
    return await alone[name](quick=quick)


if __name__ == "__main__":
    sys.exit(main())
