"""nightmill's own worker process, as the supervisor starts it."""

from __future__ import annotations

import sys

from benchmarks.usage import Meter
from benchmarks.work import Work
from nightmill_worker.machine import process


def run_jobs(_work: Work, meter: Meter) -> None:
    """Run a worker with validation, limiter, store and logs on. The environment has its settings.

    Measuring begins at SIGUSR1, so the start of the process is not counted. The worker ends when
    its standard input closes.
    """
    meter.on_signal()
    if code := process.main():
        sys.exit(code)
