"""What `status` shows, for pages: one look at Redis and the store serves all who ask meanwhile."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from nightmill.client.corrected import Corrections
from nightmill.errors import StoreError
from nightmill.queue.keys import SINGLES
from nightmill.queue.stops import read_stops
from nightmill.reports.view import View, look
from nightmill_gateway.console.access import learn

if TYPE_CHECKING:
    from nightmill_gateway.services import Services

FRESH_S: Final = 0.5
"""How old a look at all batches may be, seconds."""
PATIENCE_S: Final = 0.6
"""How long a page waits for the store to correct the counts of Redis, seconds."""


class Looks:
    """Looks at batches. Raises QueueUnavailableError, as the commands do."""

    def __init__(self, services: Services) -> None:
        """Take connections that are open while this is used."""
        self._services = services
        self._corrections = Corrections(
            services.batches, services.settings, lenient=True, store=services.store
        )
        self._running: asyncio.Task[View] | None = None
        self._last: tuple[float, View] | None = None

    async def all(self) -> View:
        """Return all batches, at most FRESH_S old.

        The first look of a gateway counts the rows of batches that are over. While that takes
        longer than PATIENCE_S, the counts are those of Redis.
        """
        if self._last is not None and time.monotonic() - self._last[0] < FRESH_S:
            return self._last[1]
        if self._running is None:
            self._running = asyncio.create_task(self._look())
            self._running.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await asyncio.shield(self._running)
        except TimeoutError:
            return self._last[1] if self._last is not None else await self._uncorrected()

    def forget(self) -> None:
        """Look anew at the next call: something was changed."""
        self._last = self._running = None

    async def one(self, batch: str) -> View:
        """Return one batch as it is now. Raises BatchNotFoundError."""
        return await self._known(await look(self._services.batches, batch, self._corrections))

    async def _look(self) -> View:
        return await self._known(await look(self._services.batches, None, self._corrections))

    async def _known(self, view: View) -> View:
        """Return a view, once it is known whose its Message Batches are."""
        with suppress(StoreError):  # they are nobody's until the store answers
            await learn(self._services.message_batches, view.counts)
        return view

    def _ended(self, task: asyncio.Task[View]) -> None:
        if not task.cancelled() and task.exception() is None and task is self._running:
            self._last = time.monotonic(), task.result()
        if task is self._running:
            self._running = None

    async def _uncorrected(self) -> View:
        batches = self._services.batches
        counts = {**await batches.all(), SINGLES: await batches.counts(SINGLES)}
        stops = await read_stops(batches.redis, list(counts))
        return await self._known(View(counts=counts, only=None, stops=stops))
