"""A whole run on one machine: feed a checked file, keep workers going, watch, until all is stored.

What `nightmill run` does, without the terminal: the caller gives lines, hears progress and reads
how it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from enum import Enum
from random import Random
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.client.producer import Producer
from nightmill.enqueue.feeder import Changed, Fed, Feeder
from nightmill.errors import QueueUnavailableError
from nightmill.queue.batches import Batches
from nightmill.queue.connection import connect
from nightmill.records.counts import Counts
from nightmill.records.limits import Change
from nightmill.store import ResultStore
from nightmill_worker.fleet.tasks import end_tasks
from nightmill_worker.limiter.account import fingerprint
from nightmill_worker.webhooks.delivery import Delivery

if TYPE_CHECKING:
    from nightmill.settings import Settings
    from nightmill.sources import Line
    from nightmill_worker.machine.supervisor import Supervisor

LOOK_S: Final = 0.2
"""Between two looks at the counts, seconds."""
TELL_S: Final = 30.0
"""For telling the webhook; later, another worker or run goes on."""


class End(Enum):
    """How a run ended."""

    DONE = "every job has its result"
    STOPPED = "stopped with jobs left"
    INTERRUPTED = "interrupted"


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended: the counts then, what was fed, and why it stopped, if it did."""

    end: End
    counts: Counts
    fed: Fed
    reason: str = ""


class LocalRun:
    """One batch from its source to its last row, with workers of its own."""

    def __init__(  # noqa: PLR0913 - the workers, the batch, and what is asked of it
        self,
        supervisor: Supervisor,
        served: Settings,
        batch: str,
        changed: Changed | None = None,
        limits: Change | None = None,
        *,
        on_complete: str | None = None,
    ) -> None:
        """Take the workers (not started), settings with a Redis that serves, the batch's name.

        `changed` and `on_complete` are the Feeder's, `limits` what the batch is held to from now
        on.
        """
        self._on_complete = on_complete
        self._served = served
        self._batch = batch
        self._changed = changed
        self._limits = limits
        self._line = fingerprint(served)
        self._supervisor = supervisor
        self._interrupted = asyncio.Event()
        self._working: asyncio.Task[None] | None = None

    def interrupt(self) -> None:
        """Stop: workers finish their calls and drain; called again, they give them back."""
        self._interrupted.set()
        self._supervisor.stop()

    async def run(
        self, lines: Callable[[], Iterable[Line]], show: Callable[[Counts, int], None]
    ) -> Ending:
        """Feed what `lines()` yields (again, should Redis have lost jobs) and wait for the end.

        `show` hears the counts and the number of 429s, a few times a second. Raises what the
        Feeder raises, and WorkersFailedError.
        """
        async with (
            Producer(settings=self._served) as producer,
            ResultStore.open(self._served.store_at) as store,
            contextlib.aclosing(connect(self._served)) as redis,
        ):
            batches = Batches(redis)
            await batches.try_account_again(self._line)
            if self._limits:
                await batches.limit(self._batch, self._limits, model=self._served.model)
            if (await batches.counts(self._batch)).held:
                await batches.resume(self._batch)
            async with Feeder(
                self._batch,
                producer,
                batches,
                store,
                self._changed,
                on_complete=self._on_complete,
            ) as feeder:
                await feeder.check(lines())
                try:
                    ending = await self._see_through(feeder, batches, lines, show)
                finally:
                    await self._stop_workers()
                if ending.end is End.DONE and ending.counts.webhook:
                    ending = await self._tell(ending, batches)
                return ending

    async def _tell(self, ending: Ending, batches: Batches) -> Ending:
        """Tell whoever wants to know that the batch is done, unless interrupted."""
        delivery = Delivery(self._served, batches.redis, lambda _: None, Random())  # noqa: S311
        telling = asyncio.create_task(delivery.see_to(self._batch, TELL_S))
        interrupted = asyncio.create_task(self._interrupted.wait())
        await asyncio.wait({telling, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        await end_tasks(telling, interrupted)
        counts, _, _ = await self._seen(batches)
        return msgspec.structs.replace(ending, counts=counts)

    async def _see_through(
        self,
        feeder: Feeder,
        batches: Batches,
        lines: Callable[[], Iterable[Line]],
        show: Callable[[Counts, int], None],
    ) -> Ending:
        feeding = asyncio.create_task(feeder.feed(lines()))
        fed, end = Fed(), None
        try:
            while end is None:
                counts, reason = await self._look(batches, show)
                if feeding.done() and not fed.total:
                    fed = feeding.result()
                end = self._cut_short(counts, reason)
                if end is None and feeding.done() and counts.drained:
                    if not await feeder.lost():
                        end = End.DONE
                    else:  # Redis lost jobs: what has neither row nor job goes in again
                        feeding = asyncio.create_task(feeder.feed(lines()))
                if end is None:
                    self._start_workers(counts)
                    await self._rest(feeding)
        finally:
            await end_tasks(feeding)
        await self._stop_workers()
        counts, reason = await self._look(batches, show)
        return Ending(end=end, counts=counts, fed=fed if fed.total else feeder.fed, reason=reason)

    def _cut_short(self, counts: Counts, reason: str) -> End | None:
        """Tell whether the run ends with jobs left."""
        if self._interrupted.is_set():
            return End.INTERRUPTED
        return End.STOPPED if reason and not counts.in_flight else None

    async def _look(
        self, batches: Batches, show: Callable[[Counts, int], None]
    ) -> tuple[Counts, str]:
        """Return the counts, and why nothing more can come of them ("" while it can)."""
        counts, refused, line = await self._seen(batches)
        show(counts, refused)
        if line.get("state") == "stopped":
            return counts, line["reason"]
        return counts, f"paused: {counts.reason}" if counts.held else ""

    async def _seen(self, batches: Batches) -> tuple[Counts, int, dict[str, str]]:
        """Return counts, 429s and the line; waits for an embedded server that is being revived."""
        while True:
            try:
                lines = await batches.accounts()
                refused = await batches.refused()
                return await batches.counts(self._batch), refused, lines.get(self._line, {})
            except QueueUnavailableError:
                await asyncio.sleep(LOOK_S)

    def _start_workers(self, counts: Counts) -> None:
        """Start the workers once there is something to do: a finished batch needs none."""
        if self._working is None and not counts.drained:
            self._working = asyncio.create_task(self._supervisor.run())
        elif self._working is not None and self._working.done():
            self._working.result()

    async def _stop_workers(self) -> None:
        if self._working is not None:
            if not self._interrupted.is_set():
                self._supervisor.stop()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(self._working)

    async def _rest(self, feeding: asyncio.Task[Fed]) -> None:
        """Wait until the next look, or less when something ends."""
        interrupted = asyncio.create_task(self._interrupted.wait())
        waits: set[asyncio.Task[object]] = {interrupted}
        if not feeding.done():
            waits.add(feeding)
        await asyncio.wait(waits, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        await end_tasks(interrupted)
