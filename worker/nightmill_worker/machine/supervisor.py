"""The supervisor: N worker processes, each in a session of its own; a dead one is started again."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from nightmill.errors import NightmillError
from nightmill.metrics.serving import metrics_served
from nightmill.queue import crashes
from nightmill.queue.connection import connect
from nightmill.queue.crashes import Crash
from nightmill.queue.patience import waits
from nightmill.safety.visible import visible
from nightmill_worker.events import WorkersCrash
from nightmill_worker.machine.control import STORE_AWAY, UNUSABLE
from nightmill_worker.machine.worker_process import Ended, WorkerProcess

if TYPE_CHECKING:
    from nightmill.settings import Settings
    from nightmill_worker.events import Event

RESTART_S: Final = (0.5, 10.0)
"""First and longest wait before a dead worker is started again, seconds; doubled while it is young.
"""
YOUNG_S: Final = 60.0
"""A worker that dies before this age dies young, seconds."""
CRASHING: Final = 3
"""Young deaths in a row after which `status` and `run` show why."""
NEWBORN_S: Final = 5.0
HOPELESS: Final = 10
"""Deaths in a row before the age of NEWBORN_S after which no other worker is started."""
KILL_S: Final = 20.0
"""Time that workers have to end after a stop at once before they are killed, seconds."""
RECORD_S: Final = 2.0
"""Longest wait for Redis to take the note about a crash, seconds."""


class WorkersFailedError(NightmillError):
    """No worker process can run here; the text says how the last one ended."""


class Supervisor:
    """Starts workers, keeps them running, stops them.

    Workers live in their own sessions, so that a Ctrl-C in the terminal reaches the supervisor
    alone. It stops them over the socket that is their standard input. They also stop when that
    closes, so they do not outlive a killed supervisor.
    """

    def __init__(self, settings: Settings, processes: int, *, log: IO[bytes] | None = None) -> None:
        """Take the workers' settings, how many, and where their stderr goes (None: to ours)."""
        self._settings = settings
        self._processes = processes
        self._log = log
        self._running: set[WorkerProcess] = set()
        self._stopping = asyncio.Event()
        self._at_once = False
        self._failed = ""
        self._crashes: dict[int, Crash] = {}
        self.restarts = 0
        self.unclean: list[str] = []
        """How workers ended that were stopped, where their answers may be lost."""

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers that run now."""
        return [worker.pid for worker in self._running]

    @property
    def crash(self) -> Crash | None:
        """Why workers keep dying soon after their start; None: they do not."""
        return next(iter(self._crashes.values()), None)

    async def run(self) -> None:
        """Keep the workers running; return when they have all ended after `stop`.

        Raises WorkersFailedError when a worker cannot run with its settings, or when workers die
        as soon as they start, and ServerError when METRICS_PORT cannot be used.
        """
        port, host = self._settings.metrics_port, self._settings.metrics_host
        try:
            async with metrics_served(self._settings, port, host), asyncio.TaskGroup() as group:
                for slot in range(self._processes):
                    group.create_task(self._keep_one(slot))
        finally:
            self.stop()
            if not self._failed:  # else `status` still shows it for a while
                await self._forget_crashes(*self._crashes)
        if self._failed:
            raise WorkersFailedError(f"{self._failed}: {self._end_of_log()}")

    def stop(self, *, at_once: bool = False) -> None:
        """Ask the workers to drain; with `at_once`, to give their jobs back at once.

        Workers that have not ended KILL_S seconds after that are killed.
        """
        self._stopping.set()
        if at_once and not self._at_once:
            self._at_once = True
            asyncio.get_running_loop().call_later(KILL_S, self._kill)
        for worker in self._running:
            worker.stop(at_once=self._at_once)

    def _kill(self) -> None:
        for worker in self._running:
            worker.kill()

    async def _keep_one(self, slot: int) -> None:
        """Keep one worker running until `stop`."""
        loop = asyncio.get_running_loop()
        pauses = waits(*RESTART_S)
        young_deaths = newborn_deaths = 0
        while not self._stopping.is_set():
            started = loop.time()
            ended = await self._run_one(slot)
            age = loop.time() - started
            if self._stopping.is_set():
                return
            if age >= YOUNG_S:
                pauses, young_deaths = waits(*RESTART_S), 0
            else:
                young_deaths += 1
            counts = age < NEWBORN_S and ended.code != STORE_AWAY
            newborn_deaths = newborn_deaths + 1 if counts else 0
            if self._gives_up(ended, newborn_deaths):
                return
            self.restarts += 1
            pause_s = next(pauses)
            self._report(f"a worker ended ({ended}); starting another", ended.event(pause_s))
            if young_deaths >= CRASHING:
                await self._note_crash(slot, ended, young_deaths)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._stopping.wait()

    def _gives_up(self, ended: Ended, newborn_deaths: int) -> bool:
        """Stop all workers if another start would end as this one did; return whether it would."""
        if ended.code == UNUSABLE:
            self._failed = "workers cannot run"
        elif newborn_deaths >= HOPELESS:
            self._failed = f"workers die as soon as they start ({ended})"
        if self._failed:
            self.stop()
        return bool(self._failed)

    async def _note_crash(self, slot: int, ended: Ended, deaths: int) -> None:
        """Show why workers keep dying: here, in Redis for `status`, and on stderr."""
        problem = ended.problem or f"{ended}: {self._end_of_log()}"
        crash = Crash(problem=problem, deaths=deaths, log=self._log.name if self._log else "")
        if slot not in self._crashes:
            self._report(str(crash), WorkersCrash(problem=problem, deaths=deaths))
        self._crashes[slot] = crash
        await self._record(crash)

    def _report(self, text: str, event: Event) -> None:
        """Write a line to stderr: text beside a progress line, else an event in LOG_FORMAT."""
        if self._log is not None:
            sys.stderr.write(visible(f"{text}\n"))
            return
        from nightmill_worker.logs import log_events  # noqa: PLC0415 - `run` does not need it

        log_events(self._settings)(event)

    async def _forget_crashes(self, *slots: int) -> None:
        """Note that the workers of `slots` live longer than a minute, or are stopped."""
        crashed = [slot for slot in slots if self._crashes.pop(slot, None)]
        if crashed and not self._crashes:
            await self._record(None)

    async def _record(self, crash: Crash | None) -> None:
        """Write or clear the note in Redis; without Redis, only stderr has it."""
        with contextlib.suppress(NightmillError, TimeoutError):
            async with contextlib.aclosing(connect(self._settings)) as redis:
                async with asyncio.timeout(RECORD_S):
                    await (crashes.write(redis, crash) if crash else crashes.clear(redis))

    def _end_of_log(self) -> str:
        """Return the end of the workers' log, if it is a file of its own, and where that is."""
        if self._log is None:
            return "the reason is above"
        try:
            text = Path(self._log.name).read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            return f"{self._log.name} cannot be read: {error.strerror}"
        lines = text.splitlines() or ["no reason was written"]
        return f"{lines[-1].removeprefix('error: ')} (log: {self._log.name})"

    async def _run_one(self, slot: int) -> Ended:
        """Start a worker and wait for its end."""
        worker = WorkerProcess(self._log)
        self._running.add(worker)
        try:
            worker.begin(self._settings)
            if self._stopping.is_set():  # since this one was asked to start
                worker.stop(at_once=self._at_once)
            if await worker.lives_for(YOUNG_S):
                await self._forget_crashes(slot)
            ended = await worker.wait()
        finally:
            self._running.discard(worker)
            worker.close()
        if self._stopping.is_set() and ended.lost:
            self.unclean.append(str(ended))
        return ended
