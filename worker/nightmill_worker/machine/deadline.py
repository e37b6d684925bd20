"""A deadline for the end of a process; a thread keeps it, as the event loop may be blocked."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

FAILED: Final = 1
"""Exit code of a process that did not end in time."""
HOLD_S: Final = 1.0
"""Between two looks whether a process that is late still has answers to save, seconds."""
LAST_STEPS_S: Final = 5.0
"""Longest time for the last steps of a process that did not end in time, seconds."""


class Deadline:
    """Ends this process with FAILED when it has not ended by itself in time.

    `held` is asked when a deadline that is not final is over; while it returns True, the process
    goes on. `last_steps` is called before the end, from another thread, for LAST_STEPS_S at most.
    Both must be safe to call while the process does anything else.
    """

    def __init__(self, *, held: Callable[[], bool], last_steps: Callable[[], None]) -> None:
        """Start without a deadline."""
        self._held = held
        self._last_steps = last_steps
        self._changed = threading.Condition()
        self._at: float | None = None
        self._holding = False
        self._final = False
        self._reason = ""
        self._started = False

    def set(self, seconds: float, reason: str, *, final: bool) -> None:
        """Let this process end within `seconds`; an earlier deadline stays.

        `reason` completes "this process did not end in time after". A deadline that is held starts
        again. From any thread.
        """
        with self._changed:
            at = time.monotonic() + seconds
            if self._at is None or self._holding or at < self._at:
                self._at, self._reason = at, reason
            self._holding = False
            self._final = self._final or final
            if not self._started:
                self._started = True
                threading.Thread(target=self._wait, name="deadline", daemon=True).start()
            self._changed.notify_all()

    def _wait(self) -> None:
        with self._changed:
            while (left := self._left()) > 0:
                self._changed.wait(left)
        self._end()

    def _left(self) -> float:
        """Return seconds until this process must end, or until the next look whether it is held."""
        left = (self._at or 0.0) - time.monotonic()
        if left <= 0 and not self._final and self._held():
            self._holding = True
            return HOLD_S
        return left

    def _end(self) -> None:
        """End the process, whatever it waits for."""
        sys.stderr.write(
            f"error: this process did not end in time after {self._reason}; it stops\n"
        )
        faulthandler.dump_traceback(all_threads=True)
        steps = threading.Thread(target=self._last_steps, name="last steps", daemon=True)
        steps.start()
        steps.join(LAST_STEPS_S)
        os._exit(FAILED)
