"""The keeper: looks after every Message Batch that has not ended, until it has.

Each gateway has one, and one worker of a fleet. What it does is held in Redis and the store, so
any of them goes on where another one stopped. The feeder's lock lets one process feed a batch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from nightmill.errors import (
    BatchBusyError,
    BatchEndedError,
    QueueFullError,
    QueueRefusedError,
    QueueUnavailableError,
    StoreUnavailableError,
)
from nightmill.message_batches.feeding import BatchFeeding
from nightmill.message_batches.turns import Turns
from nightmill.records.job import now_ms
from nightmill.records.message_batch import id_before

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from nightmill.message_batches.connections import Connections
    from nightmill.records.message_batch import MessageBatch

Report = Callable[[str, Exception, float], None]
"""Called with what raised, and in how many seconds it is tried again."""

BUSY_S: Final = 5.0
"""Wait after another process had the feeder's lock, seconds."""
AFTER_DEFECT_S: Final = 30.0
"""Wait of a batch whose step raised, seconds."""
BROKEN_OFF_MS: Final = 2 * 3_600_000
"""A create takes less: requests without their batch for so long are remains of one that broke."""
CLEAN_S: Final = 600.0
COUNTED: Final = 200
"""Batches whose counts one command reads: Redis does nothing else meanwhile."""
_CLEANING: Final = ""
"""Names the task that is about no batch."""
_PASSING: Final = (
    *(BatchBusyError, BatchEndedError, QueueFullError, QueueUnavailableError),
    StoreUnavailableError,
)
"""Errors after which the next look goes on."""


class Keeper:
    """The work of one process on all Message Batches."""

    def __init__(self, connections: Connections, report: Report) -> None:
        """Use connections that are open until `close` has returned; `report` gets the defects."""
        self._connections = connections
        self._report = report
        self._steps: dict[str, asyncio.Task[None]] = {}
        self._feeds: dict[str, asyncio.Task[None]] = {}
        self._step_turns, self._feed_turns = Turns(), Turns()
        self._cleaned_at = -CLEAN_S
        self._cleaned_upto = ""

    async def look(self) -> int:
        """Start what each batch needs now; return how many have not ended.

        What fails comes again with a later look.
        """
        if time.monotonic() - self._cleaned_at > CLEAN_S:
            self._cleaned_at = time.monotonic()
            self._start_step(_CLEANING, self._clean)
        try:
            found = await self._connections.message_batches.unfinished()
            for first in range(0, len(found), COUNTED):
                await self._start_needed(found[first : first + COUNTED])
        except _PASSING:
            return 0
        return len(found)

    async def _start_needed(self, batches: list[MessageBatch]) -> None:
        try:
            counts = await self._connections.batches.counts_of([each.batch for each in batches])
        except QueueRefusedError:  # a key of one of them holds something else: the others go on
            if len(batches) == 1:
                raise
            for each in batches:
                with suppress(QueueRefusedError):
                    await self._start_needed([each])
            return
        for batch in batches:
            feeding = BatchFeeding(self._connections, batch)
            match feeding.needs(counts[batch.batch]):
                case "feed":
                    self._start_feed(feeding)
                case "step":
                    self._start_step(feeding.name, partial(self._step, feeding))

    async def close(self) -> None:
        """End what has been started. A lock that is held is released."""
        while left := [*self._steps.values(), *self._feeds.values()]:
            for task in left:
                task.cancel()
            await asyncio.wait(left)

    def _start_step(self, name: str, step: Callable[[], Awaitable[None]]) -> None:
        self._start(self._steps, name, step, self._step_turns)

    def _start_feed(self, feeding: BatchFeeding) -> None:
        self._start(self._feeds, feeding.name, partial(self._feed, feeding), self._feed_turns)

    def _start(
        self,
        tasks: dict[str, asyncio.Task[None]],
        name: str,
        work: Callable[[], Awaitable[None]],
        turns: Turns,
    ) -> None:
        """Start `work` for the batch `name`, unless a task of this kind runs for it."""
        if name not in tasks:
            tasks[name] = asyncio.create_task(self._guarded(name, work, turns))
            tasks[name].add_done_callback(lambda _: tasks.pop(name))

    async def _guarded(self, name: str, work: Callable[[], Awaitable[None]], turns: Turns) -> None:
        try:
            async with turns.turn():
                await work()
        except BatchBusyError:
            await asyncio.sleep(BUSY_S)
        except _PASSING:
            pass
        except Exception as error:  # noqa: BLE001 - other batches go on
            self._report(f"batch {name}", error, AFTER_DEFECT_S)
            await asyncio.sleep(AFTER_DEFECT_S)

    async def _step(self, feeding: BatchFeeding) -> None:
        now = await self._now(feeding)
        if now and await now.step():
            self._start_feed(now)

    async def _feed(self, feeding: BatchFeeding) -> None:
        """Feed a batch, unless another process has fed it during the wait for a turn."""
        now = await self._now(feeding)
        if now and await now.step():
            await now.feed()

    async def _now(self, feeding: BatchFeeding) -> BatchFeeding | None:
        """Return a batch as it is now; None: it was deleted during the wait for a turn.

        The requests of a deleted batch that has no rows any more would be called again.
        """
        batch = feeding.batch
        if batch.deleted_at is not None:
            return feeding
        found = await self._connections.message_batches.get(batch.tenant, batch.batch)
        return BatchFeeding(self._connections, found) if found else None

    async def _clean(self) -> None:
        """Remove the requests of creates that broke off: of a gateway that was killed."""
        batches = self._connections.message_batches
        upto = id_before(now_ms() - BROKEN_OFF_MS)
        for name in await batches.remains(upto, since=self._cleaned_upto):
            await batches.drop(name)
        self._cleaned_upto = upto
