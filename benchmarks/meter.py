"""A contender's own meter: CPU and wall time since the start signal, and its peak memory."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

from benchmarks.work import Spent


class Meter:
    """Counts from SIGUSR1 on: imports, connections and prepared prompts come before."""

    def __init__(self) -> None:
        """Count from now until the signal comes."""
        self.checked_s = 0.0
        self.begin()

    def begin(self) -> None:
        """Count from now on."""
        self._cpu_s, self._wall_s = _cpu_s(), time.perf_counter()

    def on_signal(self) -> None:
        """Begin at SIGUSR1, under whatever loop runs then, and say that this process is there."""
        signal.signal(signal.SIGUSR1, lambda *_: self.begin())
        print("ready", flush=True)

    async def started(self) -> None:
        """Say that everything is prepared, wait for SIGUSR1, and begin."""
        threading.Thread(target=_leave_with_parent, daemon=True).start()
        signalled = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, signalled.set)
        print("ready", flush=True)
        await signalled.wait()
        self.begin()

    def checked(self) -> None:
        """Note that the source is checked."""
        self.checked_s = time.perf_counter() - self._wall_s

    def spent(self) -> Spent:
        """Return what was used since the beginning."""
        return Spent(
            cpu_s=_cpu_s() - self._cpu_s,
            wall_s=time.perf_counter() - self._wall_s,
            peak_rss_mb=peak_rss_mb(),
            checked_s=self.checked_s,
        )


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_rss_mb() -> float:
    """Return the peak in MB. Linux lets ru_maxrss inherit the parent's peak; VmHWM is our own."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _leave_with_parent() -> None:
    """End this process when the benchmark's end of standard input closes."""
    sys.stdin.read()
    os._exit(3)
