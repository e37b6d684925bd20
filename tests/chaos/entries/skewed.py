"""A worker process whose clock is off by as many seconds as its argument says."""

from __future__ import annotations

import sys
import time

from nightmill_worker.machine import process

NANO = 1_000_000_000
_right_ns = time.time_ns


def wrong_ns() -> int:
    """Return what this machine's clock shows, epoch ns."""
    return _right_ns() + int(sys.argv[1]) * NANO


def wrong() -> float:
    """Return the same in seconds."""
    return wrong_ns() / NANO


if __name__ == "__main__":
    time.time_ns, time.time = wrong_ns, wrong
    sys.exit(process.main())
