"""SIGTERM and SIGINT: the first one stops gracefully, a later one stops at once."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

AT_ONCE: Final = "Press Ctrl-C again to stop at once; those calls would be paid for again."
NOTICE_S: Final = 0.2
"""Time from the first signal to its notice, seconds. A Ctrl-C can reach a process twice: from the
terminal, and from a wrapper that passes it on. Within this time it is one."""
SAME_STOP_S: Final = 2.0
"""SIGTERMs within this time after the first signal are the same stop, seconds."""


def finishing(calls: int | None, grace_s: float) -> str:
    """Return what happens to calls in flight; None: their number is not known."""
    if calls == 0:
        return "stopping; no call is in flight."
    what = "calls in flight are" if calls is None else f"{calls:,} calls are"
    if calls == 1:
        what = "1 call is"
    return f"{what} finishing (at most {grace_s:g} s). {AT_ONCE}"


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
        calls: Callable[[], int | None] = lambda: None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """Take what to call, the seconds that calls in flight have, and how many there are.

        `calls` returns None where their number is not known.
        """
        self._stop = stop
        self._stop_at_once = stop_at_once
        self._grace_s = grace_s
        self._calls = calls
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
            self._loop.call_later(NOTICE_S, self._print_notice, number)
            self._stop()
        elif self._counts(number, self._loop.time() - self._first_at):
            self._stop_at_once()

    def _counts(self, number: int, after_s: float) -> bool:
        """Return whether a signal `after_s` seconds after the first one is a second stop."""
        return self._noticed if number == signal.SIGINT else after_s >= SAME_STOP_S

    def _print_notice(self, number: int) -> None:
        given = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        sys.stderr.write(f"{given}: {finishing(self._calls(), self._grace_s)}\n")
        sys.stderr.flush()
        self._noticed = True
