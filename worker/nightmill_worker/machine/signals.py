"""SIGTERM and SIGINT: the first one stops gracefully, a later one stops at once."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

NOTICE_S: Final = 0.2
"""Time from the first signal to its notice, seconds. A Ctrl-C can reach a process twice: from the
terminal, and from a wrapper that passes it on. Within this time it is one."""
SAME_STOP_S: Final = 2.0
"""SIGTERMs within this time after the first signal are the same stop, seconds."""


class StopSignals:
    """Calls `stop` at the first signal and `stop_at_once` at a later one that counts.

    A later SIGTERM counts SAME_STOP_S after the first signal: service managers and wrappers may
    send one stop twice. A later SIGINT counts once the notice of the first signal is printed: a
    person who presses Ctrl-C again has read what it does.
    """

    def __init__(
        self,
        stop: Callable[[], None],
        stop_at_once: Callable[[], None],
        *,
        grace_s: float,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Take what to call, and the seconds that calls under way have to finish."""
        self._stop = stop
        self._stop_at_once = stop_at_once
        self._grace_s = grace_s
        self._loop = loop or asyncio.get_running_loop()
        self._first_at: float | None = None
        self._noticed = False

    def install(self) -> None:
        """Handle both signals from now on, until the event loop closes."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self.receive, number)

    def receive(self, number: int) -> None:
        """Take one signal."""
        if self._first_at is None:
            self._first_at = self._loop.time()
            self._loop.call_later(NOTICE_S, self._print_notice)
            self._stop()
        elif self._counts(number, self._loop.time() - self._first_at):
            self._stop_at_once()

    def _counts(self, number: int, after_s: float) -> bool:
        """Return whether a signal `after_s` seconds after the first one is a second stop."""
        return self._noticed if number == signal.SIGINT else after_s >= SAME_STOP_S

    def _print_notice(self) -> None:
        sys.stderr.write(
            f"stopping: calls under way have {self._grace_s:g} s to finish; "
            "Ctrl-C again gives their jobs back at once\n"
        )
        sys.stderr.flush()
        self._noticed = True
