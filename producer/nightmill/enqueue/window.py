"""The window: how many jobs of a batch a feeder lets into Redis at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from nightmill.queue.patience import patiently

if TYPE_CHECKING:
    from nightmill.queue.batches import Batches

_LOOK_S: Final = 0.05
"""Pause between two looks at a full window, seconds."""


class Window:
    """Keeps at most `size` jobs of one batch in Redis; 0 means any number."""

    def __init__(self, batches: Batches, batch: str, size: int) -> None:
        """Take the batch whose jobs are counted; this process must be its only feeder."""
        self.size = size
        self._batches = batches
        self._batch = batch
        self._room = 0

    def __repr__(self) -> str:
        """Say how many more jobs fit before the next look."""
        return f"<Window {self._batch} {self._room} of {self.size}>"

    async def make_room(self, jobs: int) -> None:
        """Wait until `jobs` more fit into the window, and count them as put in."""
        while self.size and self._room < jobs:
            counts = await patiently(lambda: self._batches.counts(self._batch))
            self._room = self.size - counts.waiting - counts.in_flight
            if self._room < jobs:
                await asyncio.sleep(_LOOK_S)
        self._room -= jobs

    def chunk(self, longest: int) -> int:
        """Return how many jobs to send at once: `longest`, or a quarter of a narrow window.

        So a narrow window is refilled before it is empty.
        """
        return max(1, min(longest, self.size // 4)) if self.size else longest
