"""Makes every worker process raise at its start; Python imports this file from PYTHONPATH."""

from __future__ import annotations

import os
import sys

MODULE = "nightmill_worker.machine.process"


async def fail(_: object) -> None:
    """Raise, until the file that CRASH_UNLESS names exists."""
    if not os.path.exists(os.environ["CRASH_UNLESS"]):  # noqa: PTH110, ASYNC240 - only the fault
        raise RuntimeError("the library of the worker is broken")


if MODULE in sys.orig_argv:
    from nightmill_worker.fleet.worker import FleetWorker

    _main = FleetWorker.main

    async def main(worker: FleetWorker) -> None:
        """Raise, or work."""
        await fail(worker)
        await _main(worker)

    FleetWorker.main = main  # type: ignore[method-assign,assignment]
