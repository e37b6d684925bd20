"""Contender processes: started together, signalled together, and gone when the block ends."""

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
LEAVE_S: Final = 20.0


class Crew:
    """The processes of one contender."""

    def __init__(self, processes: Sequence[asyncio.subprocess.Process], logs: Path) -> None:
        """Take running processes and the file of their complaints."""
        self._processes = processes
        self._logs = logs

    async def ready(self) -> None:
        """Wait until all say that they are prepared."""
        async with asyncio.timeout(START_S):
            await asyncio.gather(*(self._line(process) for process in self._processes))

    def start(self) -> None:
        """Give the start signal: all count from here."""
        for process in self._processes:
            process.send_signal(signal.SIGUSR1)

    def leave(self) -> None:
        """Close their standard input: workers drain and end, the rest just ends."""
        for process in self._processes:
            if process.stdin is not None:
                process.stdin.close()

    async def spent(self) -> list[Spent]:
        """Wait for the end of all and return what each of them reports."""
        lines = await asyncio.gather(*(self._line(process) for process in self._processes))
        return [msgspec.json.decode(line, type=Spent) for line in lines]

    async def _line(self, process: asyncio.subprocess.Process) -> bytes:
        line = await process.stdout.readline() if process.stdout else b""
        if not line:
            said = self._logs.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"a contender ended with {await process.wait()}: {said}")
        return line


@asynccontextmanager
async def crew(works: Sequence[Work], folder: Path) -> AsyncIterator[Crew]:
    """Start a process for each of `works`, with logs in `folder`; none survives the block."""
    logs = folder / "contenders.log"
    processes: list[asyncio.subprocess.Process] = []
    try:
        with logs.open("ab") as log:
            for work in works:
                process = await _process(work, log.fileno())
                processes.append(process)
        yield Crew(processes, logs)
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
    """Return this environment without the user's own nightmill and endpoint, with `work`'s."""
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
