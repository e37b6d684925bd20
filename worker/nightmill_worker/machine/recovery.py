"""What a run does when no job of its batch is in Redis: it is done, or Redis has lost jobs.

The rows in the store are counted, not what Redis says of them: a Redis that lost jobs has lost
their counts as well. Lost jobs are fed again, but not at once: workers that live first put back
what they hold, one lease passes, and their answers are stored. So no call in flight is made twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nightmill.enqueue.feeder import Feeder
    from nightmill.records.counts import Counts
    from nightmill.sources import Line

IN_VAIN: Final = 3
"""So often lost jobs are fed again without a new row; then the run stops."""


class Step(Enum):
    """What follows."""

    DONE = "every job has its row"
    WAIT = "workers may still put back what they hold"
    FEED = "feed the lines again"
    STOP = "feeding again does not help"


class Recovery:
    """Watches one run; `notice` is for the person who looks on, `reason` says why it stops."""

    def __init__(self, feeder: Feeder, lines: Callable[[], Iterable[Line]], lease_s: float) -> None:
        """Take the feeder, the lines that it feeds, and how long a lease lasts, seconds."""
        self._feeder = feeder
        self._lines = lines
        self._lease_s = lease_s
        self._again_at: float | None = None
        self._before: int | None = None
        self._in_vain = 0
        self.lost = 0
        self.notice = ""
        self.reason = ""

    async def step(self, counts: Counts) -> Step:
        """Return what follows; call it while the lines are fed and no job is in Redis."""
        now = time.monotonic()
        if self._again_at is not None and now < self._again_at:
            return Step.WAIT
        missing = await self._feeder.missing(self._lines())
        if not missing:
            self.notice = ""
            return Step.DONE
        if self._again_at is None:
            self._again_at = now + self._lease_s
            self.notice = (
                f"Redis has lost jobs: {missing:,} have no row; what workers do not put back "
                f"is fed again in {self._lease_s:.0f} s"
            )
            return Step.WAIT
        self._again_at, self.notice = None, ""
        self.lost += missing
        self._in_vain = self._in_vain + 1 if missing == self._before else 0
        self._before = missing
        if counts.ended:
            self.reason = f"Redis lost {missing:,} jobs of this batch, which is {counts.flag}"
        elif self._in_vain == IN_VAIN:
            self.reason = (
                f"Redis loses jobs: {missing:,} were fed {IN_VAIN + 1} times and have no row; "
                "nightmill doctor checks its memory policy and its persistence"
            )
        return Step.STOP if self.reason else Step.FEED
