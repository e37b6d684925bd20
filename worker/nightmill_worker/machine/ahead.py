"""Starts a worker process before anything else is imported; it waits for its settings.

Little is imported here: what a process that is started ahead gains is the time that the imports of
its supervisor take.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import tempfile
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX: Final = "NIGHTMILL_"
SUPERVISED: Final = "--supervised"
"""Argument of a worker process whose standard input is the socket of its supervisor."""
WITHOUT_WORKERS: Final = frozenset({"--help", "-h", "--dry-run"})
"""Options with which `run` starts no worker."""
MODULE: Final = "nightmill_worker.machine.process"


class Started:
    """A worker process in a session of its own, and our end of its control socket."""

    def __init__(self, log: IO[bytes] | None = None, *, early: IO[bytes] | None = None) -> None:
        """Start it, with its stderr in `log` (None: ours).

        `early` takes its stderr until it gets a log; it is closed with the process.
        """
        self.early = early
        self.control, theirs = socket.socketpair()
        try:
            with theirs:
                self.process = subprocess.Popen(  # noqa: S603 - our own command
                    [sys.executable, "-m", MODULE, SUPERVISED],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=early or log,
                    env=_environment(),
                    start_new_session=True,  # a Ctrl-C in the terminal reaches the supervisor alone
                )
        except BaseException:
            self.control.close()
            raise

    def discard(self) -> None:
        """End a process that has no settings yet: it holds nothing."""
        self.process.kill()
        self.process.wait()
        self.control.close()
        if self.early is not None:
            self.early.close()


_waiting: list[Started] = []


def start_ahead(arguments: Iterable[str]) -> None:
    """Start one process for a command; when nobody takes it, it ends with this process."""
    if not WITHOUT_WORKERS.isdisjoint(arguments):
        return
    early = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
    _waiting.append(Started(early=early))
    atexit.register(discard_ahead)


def taken_ahead() -> Started | None:
    """Return a process that was started ahead, and that nobody has taken yet."""
    return _waiting.pop() if _waiting else None


def discard_ahead() -> None:
    """End the processes that nobody has taken."""
    while started := taken_ahead():
        started.discard()


def _environment() -> dict[str, str]:
    """Return our environment without NIGHTMILL_* variables: a worker gets its settings later.

    A credential that the settings do not use could otherwise be a second one.
    """
    return {k: v for k, v in os.environ.items() if not k.upper().startswith(PREFIX)}
