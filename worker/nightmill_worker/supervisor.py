"""The supervisor: N worker processes, each in a session of its own, a dead one started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import IO, TYPE_CHECKING, Final

from nightmill.errors import NightmillError

if TYPE_CHECKING:
    from nightmill.settings import Settings

RESTART_S: Final = (0.5, 10.0)
"""Wait before a dead worker is started again, doubling while it dies young; seconds."""
YOUNG_S: Final = 30.0
UNUSABLE: Final = 2
"""Exit code of a worker whose settings cannot work: starting it again would not help."""


class WorkersFailedError(NightmillError):
    """A worker process cannot run with these settings; see its own message."""


class Supervisor:
    """Starts workers, keeps them running, stops them.

    Children live in their own sessions, so a Ctrl-C in the terminal reaches the supervisor alone;
    they also drain when the pipe to them closes, so they do not outlive a killed supervisor.
    """

    def __init__(self, settings: Settings, processes: int, *, log: IO[bytes] | None = None) -> None:
        """Take the workers' settings, how many, and where their stderr goes (None: to ours)."""
        self._settings = settings
        self._processes = processes
        self._log = log
        self._running: set[asyncio.subprocess.Process] = set()
        self._stopping = asyncio.Event()
        self._unusable = False
        self.restarts = 0

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that run now."""
        return [process.pid for process in self._running]

    async def run(self) -> None:
        """Keep the workers running; returns when they have all ended after `stop`.

        Raises WorkersFailedError when one says that its settings cannot work.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._processes):
                    group.create_task(self._keep_one())
        finally:
            self.stop()
        if self._unusable:
            raise WorkersFailedError

    def stop(self) -> None:
        """Ask the workers to drain; asked again, they give their jobs back at once."""
        self._stopping.set()
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)

    async def _keep_one(self) -> None:
        wait, longest = RESTART_S
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            started = loop.time()
            code = await self._run_one()
            if code == UNUSABLE:
                self._unusable = True
                self.stop()
            if self._stopping.is_set():
                return
            self.restarts += 1
            sys.stderr.write(f"a worker ended ({_how(code)}); starting another\n")
            if loop.time() - started > YOUNG_S:
                wait = RESTART_S[0]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()
            wait = min(wait * 2, longest)

    async def _run_one(self) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "nightmill_worker.process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=self._log,
            env={**os.environ, **self._settings.to_env()},
            start_new_session=True,
        )
        self._running.add(process)
        if self._stopping.is_set():  # since this one was asked to start
            process.terminate()
        try:
            return await process.wait()
        finally:
            self._running.discard(process)


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
