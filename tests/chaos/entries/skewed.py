"""A worker process whose wall clock is wrong by the number of seconds in its argument."""

from __future__ import annotations

import sys
import time

from nightmill_worker.machine import process

NANO = 1_000_000_000
_real_ns = time.time_ns


def wrong_ns() -> int:
    """Return the wrong time, epoch ns."""
    return _real_ns() + int(sys.argv[1]) * NANO


def wrong() -> float:
    """Return the wrong time, epoch seconds."""
    return wrong_ns() / NANO


if __name__ == "__main__":
    time.time_ns, time.time = wrong_ns, wrong
    sys.exit(process.main())
