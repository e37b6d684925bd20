"""A whole run on one machine: feed a checked file and keep workers running until all is stored.

This is `nightmill run` without the terminal. The caller gives the lines, gets the progress, and
gets how the run ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from enum import Enum
from random import Random
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from nightmill.client.corrected import with_store
from nightmill.client.producer import Producer
from nightmill.client.stored import join_store
from nightmill.enqueue.changes import Changed
from nightmill.enqueue.fed import Fed
from nightmill.enqueue.feeder import Feeder
from nightmill.errors import (
    BatchEndedError,
    QueueRefusedError,
    QueueUnavailableError,
    StoreUnavailableError,
)
from nightmill.queue.batches import Batches
from nightmill.queue.connection import connect
from nightmill.queue.crashes import read_troubles
from nightmill.queue.patience import patiently
from nightmill.queue.stops import Stops, read_stops
from nightmill.records.counts import Counts
from nightmill.records.job import now_ms
from nightmill.records.limits import Change, Limits
from nightmill.store import ResultStore
from nightmill_worker.jobs.tasks import end_tasks
from nightmill_worker.limiter.account import fingerprint
from nightmill_worker.machine.recovery import Recovery, Step

if TYPE_CHECKING:
    from nightmill.records.acceptance import Accepted
    from nightmill.settings import Settings
    from nightmill.sources import Line
    from nightmill_worker.machine.supervisor import Supervisor

Show: TypeAlias = Callable[[Counts, Sequence[str]], None]

LOOK_S: Final = (0.02, 0.2)
"""Shortest and longest time between two reads of the counts, seconds."""
LOOK: Final = 0.1
"""Share of a run's time that passes between two reads: a small run ends soon after its last job."""
SLOW_S: Final = 4.0
"""A Redis that takes longer to answer is shown as away, seconds."""
WEBHOOK_S: Final = 30.0
"""Longest time to deliver the webhook, seconds; another worker or run tries again later."""


class End(Enum):
    """How a run ended."""

    DONE = "every job has its result"
    STOPPED = "stopped with jobs left"
    INTERRUPTED = "interrupted"


_ENDS: Final = {Step.DONE: End.DONE, Step.STOP: End.STOPPED}


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended."""

    end: End
    counts: Counts
    """The batch's counts at the end."""
    fed: Fed
    reason: str = ""
    """Why a run of End.STOPPED stopped."""
    lost: int = 0
    """Jobs that Redis lost and that were fed again."""
    earlier: int = 0
    """Rows of the batch that ended before this run."""


class LocalRun:
    """One batch from its source to its last row, with workers of its own."""

    def __init__(  # noqa: PLR0913 - the workers, the batch and its options
        self,
        supervisor: Supervisor,
        served: Settings,
        batch: str,
        changed: Changed | None = None,
        limits: Change | None = None,
        *,
        accepted: Accepted | None = None,
        on_complete: str | None = None,
        content: str | None = None,
    ) -> None:
        """Take the workers (not started), settings whose Redis answers, and the batch's name.

        `changed`, `on_complete` and `content` are the Feeder's. `limits` change those of the batch,
        and `accepted` what it accepts.
        """
        self._accepted = accepted
        self._on_complete = on_complete
        self._content = content
        self._served = served
        self._batch = batch
        self._changed = changed
        self._limits = limits
        self._account = fingerprint(served)
        self._supervisor = supervisor
        self._interrupted = asyncio.Event()
        self._began = 0.0
        self._working: asyncio.Task[None] | None = None
        self._last: tuple[Counts, Stops] = Counts(), Stops()
        self._troubles: list[str] = []
        self._notice = ""
        self._known_limits = Limits()
        self._ended_as = ""
        self._answered = False
        self._started_ms = now_ms()

    @property
    def in_flight(self) -> int:
        """Calls of the batch in flight, as they were read last."""
        return self._last[0].in_flight

    def interrupt(self, *, at_once: bool = False) -> None:
        """Stop: calls under way may finish; with `at_once`, their jobs are given back."""
        self._interrupted.set()
        self._supervisor.stop(at_once=at_once)

    async def run(self, lines: Callable[[], Iterable[Line]], show: Show) -> Ending:
        """Feed what `lines()` yields and wait for the end; call `lines` again if Redis lost jobs.

        `show` gets the counts and one line for each trouble of the workers or of Redis, a few
        times a second. Raises what the Feeder raises, and WorkersFailedError.
        """
        async with (
            Producer(settings=self._served) as producer,
            ResultStore.open(self._served.store_at) as store,
            contextlib.aclosing(connect(self._served)) as redis,
        ):
            batches = Batches(redis)
            await join_store(self._served, redis, store)
            await batches.try_account_again(self._account)
            if self._limits:
                await batches.limit(self._batch, self._limits, settings=self._served)
            if self._accepted:
                await batches.accept(self._batch, **self._accepted)
            if (await batches.counts(self._batch)).held:
                await batches.resume(self._batch)
            async with Feeder(
                self._batch,
                producer,
                batches,
                store,
                self._changed,
                on_complete=self._on_complete,
                content=self._content,
            ) as feeder:
                await feeder.check(lines())
                try:
                    ending = await self._work(feeder, batches, lines, show)
                finally:
                    await self._stop_workers()
                if ending.counts.webhook or self._served.webhook_url:
                    ending = await self._deliver(ending, batches)
                return await self._as_stored(ending, store)

    async def _as_stored(self, ending: Ending, store: ResultStore) -> Ending:
        """Return the ending with what the store knows: the rows, and how many of them are older."""
        counts = ending.counts
        if ending.end is End.DONE:
            counts = await with_store(counts, self._batch, store)
        with contextlib.suppress(StoreUnavailableError):  # an interrupted run ends all the same
            earlier = await store.ended_before(self._batch, self._started_ms)
            ending = msgspec.structs.replace(ending, earlier=earlier)
        return msgspec.structs.replace(ending, counts=counts)

    async def _deliver(self, ending: Ending, batches: Batches) -> Ending:
        """Deliver the webhook of the batch, finished or held, unless interrupted."""
        from nightmill_worker.webhooks.delivery import Delivery  # noqa: PLC0415 - seldom needed

        delivery = Delivery(self._served, batches.redis, lambda _: None, Random())  # noqa: S311
        delivering = asyncio.create_task(delivery.see_to(self._batch, WEBHOOK_S))
        interrupted = asyncio.create_task(self._interrupted.wait())
        await asyncio.wait({delivering, interrupted}, return_when=asyncio.FIRST_COMPLETED)
        await end_tasks(delivering, interrupted)
        counts, _ = await self._read(batches, lambda *_: None)
        return msgspec.structs.replace(ending, counts=counts)

    async def _work(
        self,
        feeder: Feeder,
        batches: Batches,
        lines: Callable[[], Iterable[Line]],
        show: Show,
    ) -> Ending:
        self._began = asyncio.get_running_loop().time()
        feeding = asyncio.create_task(feeder.feed(lines()))
        recovery = Recovery(feeder, lines, self._served.lease_s)
        fed, end, counts, reason = Fed(), None, Counts(), ""
        try:
            while end is None:
                before = counts
                counts, reason = await self._look(batches, show)
                if feeding.done():
                    latest = feeding.result()
                    fed = fed if fed.total else latest
                still = feeding.done() or counts == before  # else other jobs may come
                end = self._cut_short(counts, reason if still else "")
                if end is None and feeding.done() and counts.drained:
                    step = await self._unless_interrupted(recovery.step(counts))
                    end = None if step is None else _ENDS.get(step)
                    self._notice = recovery.notice
                    if step is Step.FEED:
                        feeding = asyncio.create_task(self._feed_again(feeder, batches, lines))
                if end is None:
                    self._start_workers(counts)
                    await self._rest(feeding)
        finally:
            await end_tasks(feeding)
        await self._stop_workers()
        counts, found = await self._look(batches, show)
        return Ending(
            end=end,
            counts=counts,
            fed=fed if fed.total else feeder.fed,
            reason=recovery.reason or found or reason,
            lost=recovery.lost,
        )

    async def _feed_again(
        self, feeder: Feeder, batches: Batches, lines: Callable[[], Iterable[Line]]
    ) -> Fed:
        """Feed what Redis has lost; the batch may be lost as well, with its limits and its end."""
        if self._ended_as:
            await patiently(lambda: batches.end(self._batch, self._ended_as))
        try:
            await feeder.reopen(self._known_limits)
        except BatchEndedError:
            return feeder.fed
        return await feeder.feed(lines())

    async def _unless_interrupted(self, work: Coroutine[object, object, Step]) -> Step | None:
        """Return what `work` returns, None when the run is interrupted before."""
        working = asyncio.create_task(work)
        interrupted = asyncio.create_task(self._interrupted.wait())
        waits: set[asyncio.Task[object]] = {working, interrupted}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            await end_tasks(working, interrupted)

    def _cut_short(self, counts: Counts, reason: str) -> End | None:
        """Return how the run ends with jobs left; None: it goes on."""
        if self._interrupted.is_set():
            return End.INTERRUPTED
        return End.STOPPED if reason and not counts.in_flight else None

    async def _look(self, batches: Batches, show: Show) -> tuple[Counts, str]:
        """Return the counts, and why no more calls can be made ("" when they can)."""
        counts, stops = await self._read(batches, show)
        lines = [*self._troubles, *([self._notice] if self._notice else [])]
        lines += stops.shown(self._batch, counts, [self._account])
        show(counts, lines)
        if counts.waiting and (reason := stops.reason(self._batch, [self._account])):
            return counts, reason
        return counts, counts.reason or counts.state if counts.held else ""

    async def _read(self, batches: Batches, show: Show) -> tuple[Counts, Stops]:
        """Return the counts, and what is stopped or held.

        Waits for a Redis that is away and shows that; once interrupted, returns what was read last.
        Raises QueueRefusedError when Redis refuses before it has answered.
        """
        while True:
            try:
                async with asyncio.timeout(SLOW_S):
                    stops = await read_stops(batches.redis, [self._batch])
                    counts = await batches.counts(self._batch)
                    self._troubles = await read_troubles(batches.redis)
            except (QueueUnavailableError, TimeoutError) as error:
                if self._interrupted.is_set():
                    return self._last
                if isinstance(error, QueueRefusedError) and not self._answered:
                    raise
                problem = str(error) or f"no answer within {SLOW_S:.0f} s"
                show(self._last[0], [f"trouble: Redis is away: {problem}"])
                await asyncio.sleep(LOOK_S[1])
            else:
                self._last = counts, stops
                if counts.fed:
                    if counts.limits != Limits():
                        self._known_limits = counts.limits
                    self._ended_as = counts.flag if counts.ended else ""
                self._answered = True
                return self._last

    def _start_workers(self, counts: Counts) -> None:
        """Start the workers once there is a job: a finished batch needs none."""
        if self._working is None and not counts.drained:
            self._working = asyncio.create_task(self._supervisor.run())
        elif self._working is not None and self._working.done():
            self._working.result()

    async def _stop_workers(self) -> None:
        if self._working is not None:
            self._supervisor.stop()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(self._working)

    async def _rest(self, feeding: asyncio.Task[Fed]) -> None:
        """Wait until the next look, or until the feeding ends or the run is interrupted."""
        age_s = asyncio.get_running_loop().time() - self._began
        look_s = min(max(LOOK_S[0], LOOK * age_s), LOOK_S[1])
        interrupted = asyncio.create_task(self._interrupted.wait())
        waits: set[asyncio.Task[object]] = {interrupted}
        if not feeding.done():
            waits.add(feeding)
        await asyncio.wait(waits, timeout=look_s, return_when=asyncio.FIRST_COMPLETED)
        await end_tasks(interrupted)
