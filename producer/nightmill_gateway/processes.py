"""Several gateway processes that share listening sockets; a dead one is started again.

The supervisor holds the sockets, so a connection that no process has taken yet outlives each of
them. A process that dies breaks only its own connections: what it had accepted is in Redis and in
the store.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from nightmill.errors import NightmillError
from nightmill.metrics.serving import process_ended
from nightmill.queue.patience import waits
from nightmill_gateway.answers.log import begin_log, note_death
from nightmill_gateway.process import INSECURE, READY, UNUSABLE
from nightmill_gateway.stopping import NOTICE_S

if TYPE_CHECKING:
    import socket
    from asyncio.subprocess import Process
    from collections.abc import Awaitable, Callable, Sequence

    from nightmill.settings import Settings
    from nightmill_gateway.running import Stop

RESTART_S: Final = (0.2, 10.0)
"""First and longest wait before a dead process is started again, seconds."""
YOUNG_S: Final = 60.0
KILL_S: Final = 10.0
"""Time beyond its own that a process has to stop before it is killed, seconds."""


class GatewayFailedError(NightmillError):
    """No gateway process can run with these settings; its reason is above."""


class Processes:
    """Starts the processes, keeps them running, stops them."""

    def __init__(
        self, settings: Settings, sockets: Sequence[socket.socket], count: int, *, insecure: bool
    ) -> None:
        """Take their settings, what they listen on, and how many they are."""
        self._settings = settings
        self._fds = tuple(each.fileno() for each in sockets)
        self._count = count
        self._args = (INSECURE,) if insecure else ()
        self._running: set[Process] = set()
        self._serving: set[Process] = set()
        self._ready = asyncio.Semaphore(0)
        self._failed = False

    async def run(self, stop: Stop, ready: Callable[[], Awaitable[None]]) -> None:
        """Run until `stop`; call `ready` when all processes take requests.

        Raises GatewayFailedError when a process cannot run with its settings.
        """
        begin_log(self._settings)
        stop.then = lambda: self._stop(signal.SIGINT if stop.at_once else signal.SIGTERM)
        async with asyncio.TaskGroup() as group:
            for _ in range(self._count):
                group.create_task(self._keep_one(stop))
            telling = group.create_task(self._tell(ready))
            await stop.asked.wait()
            telling.cancel()
            limit_s = NOTICE_S + self._settings.grace_s + KILL_S
            killing = asyncio.get_running_loop().call_later(limit_s, self._stop, signal.SIGKILL)
        killing.cancel()
        if self._failed:
            raise GatewayFailedError

    async def _tell(self, ready: Callable[[], Awaitable[None]]) -> None:
        for _ in range(self._count):
            await self._ready.acquire()
        await ready()

    def _stop(self, number: int) -> None:
        for process in self._running:
            # Until it takes requests, SIGINT would end it with a traceback, SIGTERM just ends it.
            early = number == signal.SIGINT and process not in self._serving
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM if early else number)

    async def _keep_one(self, stop: Stop) -> None:
        """Keep one process running until `stop`."""
        loop = asyncio.get_running_loop()
        pauses = waits(*RESTART_S)
        while not stop.asked.is_set():
            began = loop.time()
            pid, code = await self._run_one(stop)
            if stop.asked.is_set():
                return
            if code == UNUSABLE:
                self._failed = True
                stop.ask(signal.SIGINT)
                return
            if loop.time() - began > YOUNG_S:
                pauses = waits(*RESTART_S)
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            note_death(pid, how)
            with suppress(TimeoutError):
                async with asyncio.timeout(next(pauses)):
                    await stop.asked.wait()

    async def _run_one(self, stop: Stop) -> tuple[int, int]:
        """Run a process to its end; return its pid and its exit code."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "nightmill_gateway.process"),
            *(*map(str, self._fds), *self._args),
            stdin=asyncio.subprocess.PIPE,  # its end tells the process that we are gone
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, **self._settings.to_env()},
            pass_fds=self._fds,
            start_new_session=True,  # a Ctrl-C in the terminal reaches the supervisor alone
        )
        self._running.add(process)
        try:
            if process.stdout is not None and await process.stdout.readline() == READY:
                self._serving.add(process)
                self._ready.release()
            if stop.asked.is_set():  # since it was asked to start
                stop.then()
            return process.pid, await process.wait()
        finally:
            self._running.discard(process)
            self._serving.discard(process)
            process_ended(process.pid)
