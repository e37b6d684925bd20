"""A worker process whose wall clock steps by the seconds of its argument at SIGUSR1."""

from __future__ import annotations

import signal
import sys
import time

from nightmill_worker.machine import process

NANO = 1_000_000_000
_real_ns = time.time_ns
_step_ns = 0


def stepped_ns() -> int:
    """Return the time of the stepped clock, epoch ns."""
    return _real_ns() + _step_ns


def stepped() -> float:
    """Return the time of the stepped clock, epoch seconds."""
    return stepped_ns() / NANO


def step(*_: object) -> None:
    """Step the clock."""
    global _step_ns  # noqa: PLW0603 - a process has one clock
    _step_ns = int(sys.argv[1]) * NANO
    sys.stderr.write('{"event": "clock stepped"}\n')


if __name__ == "__main__":
    time.time_ns, time.time = stepped_ns, stepped
    signal.signal(signal.SIGUSR1, step)
    sys.exit(process.main())
