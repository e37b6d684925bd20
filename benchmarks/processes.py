"""Contender processes: they start together, get one start signal, and end with the block."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.work import Spent, Work

START_S: Final = 120.0
"""Longest wait until all are ready, seconds."""
LEAVE_S: Final = 20.0
"""Longest wait for a process to end; then it is killed. Seconds."""
LOG_TAIL: Final = 2000
"""Characters of the log in the error of a process that failed."""


class Contenders:
    """The processes of one contender."""

    def __init__(self, processes: Sequence[asyncio.subprocess.Process], logs: Path) -> None:
        """Take running processes and the file that their standard error goes to."""
        self._processes = processes
        self._logs = logs

    async def ready(self) -> None:
        """Wait until all have printed that they are ready."""
        async with asyncio.timeout(START_S):
            await asyncio.gather(*(self._line(process) for process in self._processes))

    def start(self) -> None:
        """Send the start signal: every process measures from here on."""
        for process in self._processes:
            process.send_signal(signal.SIGUSR1)

    def stop(self) -> None:
        """Close their standard input: workers drain and end, other contenders end at once."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()

    async def spent(self) -> list[Spent]:
        """Wait until all have ended; return what each of them reports."""
        lines = await asyncio.gather(*(self._line(process) for process in self._processes))
        return [msgspec.json.decode(line, type=Spent) for line in lines]

    async def _line(self, process: asyncio.subprocess.Process) -> bytes:
        line = await process.stdout.readline() if process.stdout else b""
        if not line:
            log = self._logs.read_text(errors="replace")[-LOG_TAIL:]
            raise RuntimeError(f"a contender ended with {await process.wait()}: {log}")
        return line


@asynccontextmanager
async def contenders(works: Sequence[Work], folder: Path) -> AsyncIterator[Contenders]:
    """Run a process for each of `works` for the length of the block, with logs in `folder`."""
    logs = folder / "contenders.log"
    processes: list[asyncio.subprocess.Process] = []
    try:
        with logs.open("ab") as log:
            for work in works:
                process = await _process(work, log.fileno())
                processes.append(process)
        yield Contenders(processes, logs)
    finally:
        for process in processes:
            await _end(process)


async def _process(work: Work, log: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.contender",
        msgspec.json.encode(work).decode(),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=log,
        env=_env(work),
    )


def _env(work: Work) -> dict[str, str]:
    """Return the environment of a contender: the user's own settings are replaced by `work`'s."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NIGHTMILL_", "ANTHROPIC_"))}
    return kept | {
        "NIGHTMILL_REDIS_URL": work.redis_url,
        "NIGHTMILL_DATA_DIR": work.data_dir,
        "NIGHTMILL_BASE_URL": work.base_url,
        "NIGHTMILL_API_KEY": "bench",
        "NIGHTMILL_MAX_IN_FLIGHT": str(work.slots),
    }


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(LEAVE_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
