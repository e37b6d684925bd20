"""The watch: one timer that ends calls which last too long or are silent for too long.

Timers of each call would take a tenth of its CPU time when 1,000 are in flight.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

LONGEST_LOOK_S: Final = 0.5
"""The longest time between two looks, seconds."""
LOOKS: Final = 10
"""Looks within the shorter limit. A call overruns a limit by at most the time between two looks."""


class Watch:
    """Ends calls that last longer than `total_s` or receive nothing for `silent_s` (seconds)."""

    def __init__(self, total_s: float, silent_s: float, loop: asyncio.AbstractEventLoop) -> None:
        """Take the two limits and the event loop of the calls."""
        self.loop = loop
        self.total_s, self.silent_s = total_s, silent_s
        self.calls: set[Watched] = set()
        self._look_s = min(LONGEST_LOOK_S, total_s / LOOKS, silent_s / LOOKS)
        self._looking = False

    def __repr__(self) -> str:
        """Name the number of calls under way."""
        return f"<Watch calls={len(self.calls)}>"

    def begin(self, silent_s: float | None = None) -> Watched:
        """Return a context manager that watches the task that enters it.

        `silent_s` is the call's own longest silence, None: that of the watch.
        """
        if not self._looking:
            self._looking = True
            self.loop.call_later(self._look_s, self._look)
        return Watched(self, self.loop.time(), silent_s or self.silent_s)

    def _look(self) -> None:
        now = self.loop.time()
        for call in self.calls:
            if now - call.received_at > call.silent_s:
                call.end(f"nothing was received for {call.silent_s:g} s")
            elif now - call.began > self.total_s:
                call.end(f"no whole answer within {self.total_s:g} s")
        self._looking = bool(self.calls)
        if self._looking:
            self.loop.call_later(self._look_s, self._look)


class Watched:
    """A call under way. Its block sets `received_at` (loop time, seconds) when bytes arrive.

    The block raises TimeoutError with the reason when the watch has ended the call.
    """

    __slots__ = ("_before", "_reason", "_task", "_watch", "began", "received_at", "silent_s")

    def __init__(self, watch: Watch, now: float, silent_s: float) -> None:
        """Start the call's time at `now` (loop time, seconds)."""
        self.silent_s = silent_s
        self._watch = watch
        self._reason = ""
        self.began = self.received_at = now

    def __enter__(self) -> Self:
        """Start to be watched."""
        task = asyncio.current_task(self._watch.loop)
        if task is None:
            raise RuntimeError("a call is watched within a task")
        self._task, self._before = task, task.cancelling()
        self._watch.calls.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Turn the watch's own cancellation into a TimeoutError. Any other one stays."""
        self._watch.calls.discard(self)
        if (
            self._reason
            and self._task.uncancel() <= self._before
            and isinstance(error, asyncio.CancelledError)
        ):
            raise TimeoutError(self._reason) from error

    def end(self, reason: str) -> None:
        """Cancel the call, once."""
        if not self._reason:
            self._reason = reason
            self._task.cancel()
