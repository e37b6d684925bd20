"""One contender process: `python -m benchmarks.contender '<Work as JSON>'`.

It prints "ready", waits for SIGUSR1, does its work and prints what that took (Spent as JSON).
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

import msgspec
import uvloop

from benchmarks.meter import Meter
from benchmarks.work import Work

# Imported by name: a contender's memory must not hold the others' libraries.
TASKS: Final = {
    "bare loop": ("loops", "bare"),
    "gather": ("loops", "gather"),
    "stock arq": ("stock", "work_off"),
    "nightmill": ("worker", "work_off"),
    "arq enqueue_job": ("stock", "fill"),
    "nightmill enqueue_many": ("mill", "fill_from_python"),
    "nightmill feed": ("mill", "feed_file"),
    "nightmill JSONL file": ("mill", "fill_from_file"),
}


def main() -> None:
    """Do the work of the first argument."""
    work = msgspec.json.decode(sys.argv[1], type=Work)
    meter = Meter()
    module, function = TASKS[work.contender]
    task = getattr(import_module(f"benchmarks.{module}"), function)
    if work.contender == "nightmill":  # its own process runs its own loop
        task(work, meter)
    else:
        uvloop.run(task(work, meter))
    print(msgspec.json.encode(meter.spent()).decode(), flush=True)


if __name__ == "__main__":
    main()
