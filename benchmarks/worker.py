"""nightmill's worker as its users get it: the process that the supervisor starts."""

from __future__ import annotations

import sys

from benchmarks.meter import Meter
from benchmarks.work import Work
from nightmill_worker.machine import process


def work_off(_work: Work, meter: Meter) -> None:
    """Run a worker with validation, limiter, store and logs on; its settings are in its env.

    Counting begins at SIGUSR1, so the start of the process is left out; it ends with its input.
    """
    meter.on_signal()
    if code := process.main():
        sys.exit(code)
