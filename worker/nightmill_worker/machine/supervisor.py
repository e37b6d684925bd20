"""The supervisor: N worker processes, each in a session of its own, a dead one started again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from nightmill.errors import NightmillError
from nightmill.settings import PREFIX

if TYPE_CHECKING:
    from nightmill.settings import Settings

RESTART_S: Final = (0.5, 10.0)
"""Wait before a dead worker is started again, doubling while it dies young; seconds."""
YOUNG_S: Final = 30.0
NEWBORN_S: Final = 5.0
HOPELESS: Final = 10
"""Deaths in a row before NEWBORN_S, after which no other start is tried."""
UNUSABLE: Final = 2
"""Exit code of a worker whose settings cannot work: starting it again would not help."""
STORE_AWAY: Final = 75
"""Exit code of a worker that will work once the store is back (EX_TEMPFAIL of sysexits.h)."""


class WorkersFailedError(NightmillError):
    """No worker process can run here; the message has its last words."""


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
        self._failed = ""
        self.restarts = 0

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that run now."""
        return [process.pid for process in self._running]

    async def run(self) -> None:
        """Keep the workers running; returns when they have all ended after `stop`.

        Raises WorkersFailedError when one says that its settings cannot work, or none lives.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._processes):
                    group.create_task(self._keep_one())
        finally:
            self.stop()
        if self._failed:
            raise WorkersFailedError(self._failed + self._last_words())

    def stop(self) -> None:
        """Ask the workers to drain; asked again, they give their jobs back at once."""
        self._stopping.set()
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)

    async def _keep_one(self) -> None:
        wait, longest = RESTART_S
        loop = asyncio.get_running_loop()
        newborn_deaths = 0
        while not self._stopping.is_set():
            started = loop.time()
            code = await self._run_one()
            age = loop.time() - started
            counts = age < NEWBORN_S and code != STORE_AWAY
            newborn_deaths = newborn_deaths + 1 if counts else 0
            self._give_up(code, newborn_deaths)
            if self._stopping.is_set():
                return
            self.restarts += 1
            sys.stderr.write(f"a worker ended ({_how(code)}); starting another\n")
            if age > YOUNG_S:
                wait = RESTART_S[0]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stopping.wait()
            wait = min(wait * 2, longest)

    def _give_up(self, code: int, newborn_deaths: int) -> None:
        """Stop all workers if another start would end as this one did."""
        if self._stopping.is_set():
            return
        if code == UNUSABLE:
            self._failed = "workers cannot run with these settings"
        elif newborn_deaths >= HOPELESS:
            self._failed = f"workers die as soon as they start ({_how(code)})"
        if self._failed:
            self.stop()

    def _last_words(self) -> str:
        """Return the end of the workers' log, if it is a file of its own."""
        if self._log is None:
            return "; the reason is above"
        lines = Path(self._log.name).read_text(encoding="utf-8", errors="replace").splitlines()
        return f"; {self._log.name} ends with: {lines[-1] if lines else 'nothing'}"

    async def _run_one(self) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "nightmill_worker.machine.process",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=self._log,
            env=_environment(self._settings),
            start_new_session=True,
        )
        self._running.add(process)
        if self._stopping.is_set():  # since this one was asked to start
            process.terminate()
        try:
            return await process.wait()
        finally:
            self._running.discard(process)


def _environment(settings: Settings) -> dict[str, str]:
    """Return the settings and nothing else of ours: a second credential would be one too many."""
    inherited = {k: v for k, v in os.environ.items() if not k.upper().startswith(PREFIX)}
    return inherited | settings.to_env()


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
