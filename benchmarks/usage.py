"""What a contender process uses: CPU and wall time since the start signal, and peak memory."""

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
    """Measures from SIGUSR1 on: imports, connections and prepared prompts are not counted."""

    def __init__(self) -> None:
        """Measure from now on; the signal begins again."""
        self.checked_s = 0.0
        self.begin()

    def begin(self) -> None:
        """Measure from now on."""
        self._cpu_s, self._wall_s = _cpu_s(), time.perf_counter()

    def on_signal(self) -> None:
        """Begin at SIGUSR1, whatever loop runs then; print that this process is ready."""
        signal.signal(signal.SIGUSR1, lambda *_: self.begin())
        print("ready", flush=True)

    async def started(self) -> None:
        """Print that everything is prepared, wait for SIGUSR1, and begin."""
        threading.Thread(target=_end_with_parent, daemon=True).start()
        signalled = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, signalled.set)
        print("ready", flush=True)
        await signalled.wait()
        self.begin()

    def checked(self) -> None:
        """Note how long checking the source took."""
        self.checked_s = time.perf_counter() - self._wall_s

    def spent(self) -> Spent:
        """Return what was used since `begin`."""
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
    """Return this process's peak, MB. On Linux ru_maxrss may be the parent's peak; VmHWM is not."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    unit = 1 << 20 if sys.platform == "darwin" else 1 << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _end_with_parent() -> None:
    """End this process when the benchmark closes its standard input."""
    sys.stdin.read()
    os._exit(3)
