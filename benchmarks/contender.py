"""One contender process: `python -m benchmarks.contender '<Work as JSON>'`.

It prints "ready", waits for SIGUSR1, does its work, and prints what the work took: Spent as JSON.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Final

import msgspec
import uvloop

from benchmarks.usage import Meter
from benchmarks.work import Work

# Imported when needed: the memory of one contender must not hold the libraries of another.
TASKS: Final = {
    "bare loop": ("loops", "bare"),
    "own loop": ("loops", "own"),
    "gather": ("loops", "gather"),
    "stock arq": ("stock", "run_jobs"),
    "nightmill": ("worker", "run_jobs"),
    "arq enqueue_job": ("stock", "enqueue"),
    "nightmill enqueue_many": ("producers", "enqueue_from_python"),
    "nightmill feed": ("producers", "feed_file"),
    "nightmill JSONL file": ("producers", "enqueue_from_file"),
}


def main() -> None:
    """Do the work that the first argument describes."""
    work = msgspec.json.decode(sys.argv[1], type=Work)
    meter = Meter()
    module, function = TASKS[work.contender]
    task = getattr(import_module(f"benchmarks.{module}"), function)
    if work.contender == "nightmill":  # its process starts a loop of its own
        task(work, meter)
    else:
        uvloop.run(task(work, meter))
    print(msgspec.json.encode(meter.spent()).decode(), flush=True)


if __name__ == "__main__":
    main()
