"""Run the benchmarks: `python -m benchmarks [--quick] [names...]`; see --help."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Final

import uvloop

from benchmarks.again import run_again
from benchmarks.checked import run_checked
from benchmarks.control import run_control
from benchmarks.crash import run_crash
from benchmarks.depth import run_depth
from benchmarks.endpoint import Endpoint, endpoint
from benchmarks.enqueue import run_enqueue
from benchmarks.feed import run_feed
from benchmarks.gateway import run_gateway
from benchmarks.grant import run_grant
from benchmarks.idle import run_idle
from benchmarks.lanes import run_lanes
from benchmarks.latency import run_latency
from benchmarks.loads import LOADS, run_load
from benchmarks.long import run_long
from benchmarks.machine import describe, load_average
from benchmarks.observe import run_observe
from benchmarks.report import run_report
from benchmarks.start import run_start
from benchmarks.table import Table
from benchmarks.watch import run_watch

RESULTS: Final = Path(__file__).with_name("RESULTS.md")
NAMES: Final = (
    *("cpu", "fleet", "wide", "enqueue", "latency", "grant"),
    *("depth", "memory", "lanes", "feed", "control", "again", "idle", "start"),
    *("long", "crash", "checked", "gateway", "observe"),
    *("watch", "report"),
)
INTERRUPTED: Final = 130
NOTES: Final = """\
All processes run on this one machine. Every contender has processes of its own (uvloop), and so
has the simulated endpoint. nightmill runs its real workers, with validation, limiter, store and
logs on. *bare loop* and *gather* call by aiohttp's client; *own loop* is the bare loop over the
connections that nightmill's worker uses. `cpu` has two rounds, in turns; `enqueue` the medians of
three; all others one round.

- *CPU us/job*: user and system time of the worker processes, divided by all jobs. Start-up is not
  counted.
- *while full*, *slots busy*: measured from the moment the slots are first full until the queue is
  shorter than the slots. The endpoint counts the calls in flight. nightmill starts with a small
  window that grows, so the *jobs/s* of a short run is lower than the rate that it reaches.
  A star marks slots that were never 95 % full, or only when the queue had run short. Such a figure
  begins at 95 % of the most calls that the contender reached, and is too good.
- *Redis commands/job*: all commands that the server executed, also those inside scripts.
"""


def main() -> int:
    """Run the named scenarios, print their tables, write RESULTS.md after a full run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer jobs, one round: < 3 minutes")
    known = ", ".join(NAMES)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of: {known}  [default: all]")
    args = parser.parse_args()
    if unknown := set(args.names) - set(NAMES):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}; known: {known}")
    for name in [name for name in os.environ if name.startswith(("NIGHTMILL_", "ANTHROPIC_"))]:
        del os.environ[name]  # the user's limits and credentials must not change the figures
    # A background job of a shell ignores SIGINT, and the processes that are measured would, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    load = load_average()
    print(f"{describe()}\n\n{load}\n", flush=True)
    try:
        tables, failed = uvloop.run(_run(args.names or NAMES, quick=args.quick))
    except (asyncio.CancelledError, KeyboardInterrupt):
        return INTERRUPTED
    if failed:
        print(f"failed: {', '.join(failed)}; {RESULTS.name} is as it was", file=sys.stderr)
        return 1
    if not args.quick and not args.names:
        parts = ["# What it costs", describe(), load, NOTES, *map(str, tables)]
        RESULTS.write_text("\n\n".join(parts).replace("\n\n\n", "\n\n"), encoding="utf-8")
    return 0


async def _run(names: list[str] | tuple[str, ...], *, quick: bool) -> tuple[list[Table], list[str]]:
    """Return the tables, and the names of scenarios that failed: all others are run."""
    tables, failed = [], []
    if task := asyncio.current_task():  # so that all processes end
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with endpoint() as simulator:
        for name in names:
            began = time.perf_counter()
            try:
                tables.append(await _scenario(name, simulator, quick=quick))
            except Exception:  # noqa: BLE001 - a full run takes an hour
                traceback.print_exc()
                failed.append(name)
                continue
            print(f"{tables[-1]}\n({name}: {time.perf_counter() - began:.0f} s)\n", flush=True)
    return tables, failed


async def _scenario(name: str, simulator: Endpoint, *, quick: bool) -> Table:
    if name in LOADS:
        return await run_load(name, simulator, quick=quick)
    at_simulator = {
        "idle": run_idle,
        "lanes": run_lanes,
        "long": run_long,
        "depth": run_depth,
        "control": run_control,
        "crash": run_crash,
        "gateway": run_gateway,
        "observe": run_observe,
    }
    if name in at_simulator:
        return await at_simulator[name](simulator, quick=quick)
    others = {
        "enqueue": run_enqueue,
        "latency": run_latency,
        "grant": run_grant,
        "feed": run_feed,
        "again": run_again,
        "start": run_start,
        "checked": run_checked,
        "watch": run_watch,
        "report": run_report,
    }
    return await others[name](quick=quick)


if __name__ == "__main__":
    sys.exit(main())
