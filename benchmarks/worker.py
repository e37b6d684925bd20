"""nightmill's own worker process, as the supervisor starts it."""

from __future__ import annotations

import os
import sys

from benchmarks.observe import OFF
from benchmarks.usage import Meter
from benchmarks.work import Work
from nightmill_worker.machine import process


def run_jobs(_work: Work, meter: Meter) -> None:
    """Run a worker with validation, limiter, store and logs on. The environment has its settings.

    Measuring begins at SIGUSR1, so the start of the process is not counted. The worker ends when
    its standard input closes.
    """
    if OFF in os.environ:
        os.environ |= {"NIGHTMILL_HISTORY": "false", "NIGHTMILL_LOG_LEVEL": "error"}
    meter.on_signal()
    if code := process.main():
        sys.exit(code)
