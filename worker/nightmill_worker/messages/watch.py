"""The watch: one timer that ends calls which last, or are silent, for too long.

aiohttp can time each call by itself, with two timers a call; with a thousand calls in flight those
are a tenth of what a call costs.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

LONGEST_LOOK_S: Final = 0.5
LOOKS: Final = 10
"""A limit is overrun by a tenth of it, LONGEST_LOOK_S at most."""


class Watch:
    """Ends calls that last longer than `total_s` seconds, or that say nothing for `silent_s`."""

    def __init__(self, total_s: float, silent_s: float, loop: asyncio.AbstractEventLoop) -> None:
        """Take the two limits, and the loop whose tasks are watched."""
        self.loop = loop
        self.total_s, self.silent_s = total_s, silent_s
        self.calls: set[Watched] = set()
        self._look_s = min(LONGEST_LOOK_S, total_s / LOOKS, silent_s / LOOKS)
        self._looking = False

    def __repr__(self) -> str:
        """Say how many calls it watches."""
        return f"<Watch calls={len(self.calls)}>"

    def begin(self) -> Watched:
        """Return a context manager that watches the task it is entered in."""
        if not self._looking:
            self._looking = True
            self.loop.call_later(self._look_s, self._look)
        return Watched(self, self.loop.time())

    def _look(self) -> None:
        now = self.loop.time()
        for call in self.calls:
            if now - call.heard > self.silent_s:
                call.end(f"nothing was heard for {self.silent_s:g} s")
            elif now - call.began > self.total_s:
                call.end(f"no whole answer within {self.total_s:g} s")
        self._looking = bool(self.calls)
        if self._looking:
            self.loop.call_later(self._look_s, self._look)


class Watched:
    """A call under way; within its block, set `heard` (loop seconds) when something arrives.

    The block raises TimeoutError, which says why, when the watch has ended the call.
    """

    __slots__ = ("_before", "_task", "_watch", "_why", "began", "heard")

    def __init__(self, watch: Watch, now: float) -> None:
        """Begin now."""
        self._watch = watch
        self._why = ""
        self.began = self.heard = now

    def __enter__(self) -> Self:
        """Be watched."""
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
        """Turn the watch's own cancellation into a TimeoutError; anybody else's stays one."""
        self._watch.calls.discard(self)
        if (
            self._why
            and self._task.uncancel() <= self._before
            and isinstance(error, asyncio.CancelledError)
        ):
            raise TimeoutError(self._why) from error

    def end(self, why: str) -> None:
        """Cancel the call, once."""
        if not self._why:
            self._why = why
            self._task.cancel()
