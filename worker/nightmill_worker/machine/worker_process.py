"""One worker process as its supervisor sees it: its start, its settings, its stop, its end.

A process is started without settings: it imports its modules and waits. So it can be started before
the settings are known, and both take the time of one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from typing import IO, TYPE_CHECKING

import msgspec

from nightmill.metrics.serving import variables
from nightmill_worker.child import how_ended
from nightmill_worker.events import WorkerDied
from nightmill_worker.machine.ahead import Started, taken_ahead
from nightmill_worker.machine.control import (
    MAX_REPORT,
    Report,
    Request,
    received,
    send_settings,
)

if TYPE_CHECKING:
    from nightmill.settings import Settings


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker process ended."""

    pid: int
    code: int
    """Exit code; of a process that was killed, the negative number of the signal."""
    report: Report | None
    """What it reported; None when it could not, or had nothing to report."""

    @property
    def problem(self) -> str:
        """The exception that ended it, "" when it is not known."""
        return self.report.problem if self.report else ""

    @property
    def lost(self) -> bool:
        """Whether answers may be lost: it reported that, or it was killed.

        A process that SIGTERM ends has not handled it yet, so it has no answers.
        """
        if self.report:
            return self.report.lost
        return self.code < 0 and self.code != -signal.SIGTERM

    @property
    def signal(self) -> str | None:
        """The name of the signal that killed it, None when it exited by itself."""
        return signal.Signals(-self.code).name if self.code < 0 else None

    def event(self, restart_in_s: float) -> WorkerDied:
        """Return the event of this death."""
        return WorkerDied(
            pid=self.pid,
            signal=self.signal,
            exit_code=None if self.signal else self.code,
            problem=self.problem,
            restart_in_s=restart_in_s,
        )

    def __str__(self) -> str:
        """Return exit code or signal, and the exception if it is known."""
        how = how_ended(self.code)
        return f"{how}: {self.problem}" if self.problem else how


class WorkerProcess:
    """A worker process, and its supervisor's end of the control socket."""

    def __init__(self, log: IO[bytes] | None = None) -> None:
        """Take a process that was started ahead, or start one with its stderr in `log`."""
        started = taken_ahead() or Started(log)
        self._process, self._control, self._early = started.process, started.control, started.early
        self._log = log

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def begin(self, settings: Settings) -> None:
        """Let it work with `settings`, and write its stderr to the log, if there is one."""
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        threading.Thread(target=self._watch, args=(self._ended,), daemon=True).start()
        with contextlib.suppress(OSError):  # it has ended
            send_settings(self._control, settings.to_env() | variables(), self._log)
        self._control.settimeout(0)

    def _watch(self, ended: asyncio.Future[int]) -> None:
        """Wait for the end in a thread: not every system reports it to an event loop."""
        code = self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            ended.get_loop().call_soon_threadsafe(_set, ended, code)

    async def lives_for(self, seconds: float) -> bool:
        """Wait until the process is `seconds` old or has ended; return whether it lives."""
        await asyncio.wait({self._ended}, timeout=seconds)
        return not self._ended.done()

    async def wait(self) -> Ended:
        """Wait for its end."""
        code = await asyncio.shield(self._ended)
        sent = b""
        with contextlib.suppress(OSError):  # nothing was sent
            sent = self._control.recv(MAX_REPORT)
        return Ended(pid=self.pid, code=code, report=received(sent))

    def stop(self, *, at_once: bool) -> None:
        """Ask it to stop."""
        request = Request.STOP_AT_ONCE if at_once else Request.STOP
        with contextlib.suppress(OSError):  # it has ended
            self._control.send(request.value)

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()

    def close(self) -> None:
        """Close the control socket; what it wrote before it had its log goes there."""
        self._control.close()
        if self._early is not None:
            if self._log is not None:
                self._early.seek(0)
                os.write(self._log.fileno(), self._early.read())
            self._early.close()


def _set(ended: asyncio.Future[int], code: int) -> None:
    if not ended.done():
        ended.set_result(code)
