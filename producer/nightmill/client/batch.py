"""Batch: one batch by its name: its counts, pause, limits, and waiting for its end."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Unpack

import msgspec

from nightmill.checked.reading import Outputs, accepted_as, usable
from nightmill.client.corrected import Corrections
from nightmill.client.stored import acceptance_of, store_of_results
from nightmill.errors import BatchStoppedError, BatchTimeoutError
from nightmill.queue import webhooks
from nightmill.queue.patience import patiently, waits
from nightmill.queue.stops import read_stops
from nightmill.records.counts import Counts
from nightmill.records.limits import Change
from nightmill.records.place import Place
from nightmill.records.state import JobState

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection

    from nightmill.checked.reading import SchemaGiven
    from nightmill.queue.batches import Batches
    from nightmill.records.acceptance import Acceptance, Accepted
    from nightmill.records.limits import Given, Limits
    from nightmill.records.result import Result
    from nightmill.settings import Settings

LOOK_S: Final = (0.05, 1.0)
"""Pauses between two looks of `wait`, seconds: the first one, doubled up to the longest."""
STANDSTILL_S: Final = 3.0
"""Counts that have not changed for so long, seconds, will not change without a person's help."""


class Batch:
    """A batch that was or will be fed; get one from `Producer.batch`.

    Every method raises QueueUnavailableError when Redis is away; `wait` first tries for 5 minutes.
    """

    def __init__(
        self, batches: Batches, name: str, settings: Settings, schema: SchemaGiven | None = None
    ) -> None:
        """Take the batches of a Redis and a name; `settings` have the model and the store.

        Where `schema` is a class of pydantic, outputs of results are instances of it.
        """
        self.name = name
        self._schema = schema
        self._batches = batches
        self._settings = settings

    def __repr__(self) -> str:
        """Name the batch."""
        return f"<Batch {self.name}>"

    async def counts(self) -> Counts:
        """Return how many of its jobs are in each state. Raises BatchNotFoundError."""
        await self._batches.require(self.name)
        return await self._batches.counts(self.name)

    async def pause(self, reason: str = "by its producer") -> None:
        """Stop claims of its jobs; calls in flight finish.

        Raises BatchNotFoundError, BatchEndedError.
        """
        await self._batches.require(self.name)
        await self._batches.pause(self.name, reason)

    async def resume(self) -> None:
        """Allow claims of its jobs again; a batch that was cancelled stays so.

        Raises BatchNotFoundError, BatchEndedError.
        """
        await self._batches.require(self.name)
        await self._batches.resume(self.name)

    async def cancel(self) -> None:
        """End it: calls in flight finish, and every other job gets a `cancelled` row, uncalled.

        Workers write those rows later. Raises BatchNotFoundError.
        """
        await self._batches.require(self.name)
        await self._batches.cancel(self.name)

    async def limit(self, **given: Unpack[Given]) -> Limits:
        """Set limits, which hold from the next claim on; return all limits of the batch.

        `weight` is its share of claims beside other batches (1 to 1000). `concurrency` is the
        number of its calls in flight in the whole fleet. `expires` is a timedelta from now.
        `budget_usd` and `budget_tokens` are for the whole batch. A limit that is not named stays
        as it is. The batch needs no job yet. Raises InvalidLimitError that names the limit.
        """
        return await self._batches.limit(self.name, Change.of(**given), settings=self._settings)

    async def accept(self, **given: Unpack[Accepted]) -> Acceptance:
        """Say which answers are results, from the next claim on; return the whole acceptance.

        `on_truncated` is keep, fail or grow (up to `max_tokens_ceiling`), `on_pause` continue or
        keep, `on_refusal` keep, fail or model:NAME. The output must fit `schema` (a JSON Schema, or
        a class of pydantic) and pass `check` (a name in the workers' setting CHECKS). See
        Acceptance. What is not named stays as it is. The batch needs no job yet. Raises
        InvalidAcceptanceError that names the field.
        """
        return await self._batches.accept(self.name, **usable(given))

    async def on_complete(self, url: str) -> None:
        """Send a webhook to `url` when every job enqueued so far has ended.

        Call it after the last enqueue. Workers sign the webhook and repeat it for a day until
        `url` accepts it. Raises BatchNotFoundError, and SettingsError when `url` is not an http(s)
        address.
        """
        await self._batches.require(self.name)
        await webhooks.arm(self._batches.redis, self.name, url)
        await self._batches.set_total(self.name, await self._batches.total(self.name, 0))

    async def wait(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - as concurrent.futures and arq name it
        *,
        keep_waiting: bool = False,
    ) -> Counts:
        """Wait until every job of it has its stored result, and return the counts.

        A batch that was never fed is done when none of its jobs is queued or in flight: wait for
        it after the last enqueue. A batch that was fed is done when the store has its rows; where
        this machine has no store, when Redis has counted them. `timeout` is in seconds, None waits
        without end. Raises BatchTimeoutError and BatchNotFoundError. Unless `keep_waiting`, it
        raises BatchStoppedError when no further result can come without a person's help: the batch
        is paused, its account is stopped, jobs of it were lost, or its source was not fed to its
        end.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pauses, longest = waits(*LOOK_S), LOOK_S[1]
        standstill, counts = _Standstill(), Counts()
        corrections = Corrections(self._batches, self._settings)
        while True:
            now = await patiently(lambda: corrections.one(self.name))
            counts = remembering(counts, now)
            if over(counts):
                return counts
            if not keep_waiting and (reason := await self._stopped(counts, standstill)):
                raise BatchStoppedError(f'batch "{self.name}" {reason}')
            left = longest if deadline is None else deadline - time.monotonic()
            if left <= 0:
                done = f"{counts.terminal:,} of its jobs are done"
                raise BatchTimeoutError(
                    f'batch "{self.name}" is not done after {timeout:g} s; {done}'
                )
            await asyncio.sleep(min(next(pauses), left))

    async def results(
        self, *, after: str | None = None, statuses: Collection[JobState | str] | None = None
    ) -> AsyncGenerator[Result, None]:
        """Yield its stored results in the order of its source; few of them are in memory at once.

        To go on after an interruption, give the `cursor` of the last result that was handled as
        `after`. `statuses` chooses some of succeeded, failed, cancelled and expired. While the
        batch runs, results that are stored later may stand before a cursor: `wait` first to get
        all. Raises BatchNotFoundError; StoreMissingError and StoreMismatchError where the results
        cannot be read.
        """
        async with aclosing(self.pages(after=after, statuses=statuses)) as pages:
            async for page in pages:
                for result in page:
                    yield result

    async def pages(
        self, *, after: str | None = None, statuses: Collection[JobState | str] | None = None
    ) -> AsyncGenerator[list[Result], None]:
        """Yield its results in lists, as they are read; see `results`."""
        place = None if after is None else Place.of_cursor(after)
        chosen = None if statuses is None else {JobState(each) for each in statuses}
        async with store_of_results(self._settings, self._batches.redis) as store:
            if store is None or await store.known(self.name) is None:
                known = store is not None and any((await store.counts(self.name)).values())
                if not known:
                    await self._batches.require(self.name)
            if store is not None:
                accept = await acceptance_of(self._settings, self._batches.redis, self.name)
                outputs = Outputs(accepted_as(accept), self._schema)
                pages = store.pages(self.name, after=place, statuses=chosen, ordered=True)
                async with aclosing(pages):
                    async for page in pages:
                        yield [outputs.read(each) for each in page]

    async def _stopped(self, counts: Counts, standstill: _Standstill) -> str:
        """Return why the batch can have no further result, "" while it can."""
        if counts.in_flight or counts.feeding:
            return ""
        if counts.held:
            way_out = "; nightmill resume lets it go on" if counts.flag == "paused" else ""
            return f"is {counts.state}: {counts.reason}{way_out}"
        if not standstill.reached(counts, time.monotonic()):
            return ""
        if counts.gap:
            return counts.gap
        stops = await patiently(lambda: read_stops(self._batches.redis, [self.name]))
        reason = stops.reason(self.name)
        return f"is stopped: {reason}" if reason else ""


class _Standstill:
    """Notices that counts have not changed for STANDSTILL_S."""

    def __init__(self) -> None:
        self._counts: Counts | None = None
        self._since = 0.0

    def reached(self, counts: Counts, now: float) -> bool:
        if counts != self._counts:
            self._counts, self._since = counts, now
        return now - self._since >= STANDSTILL_S


def over(counts: Counts) -> bool:
    """Tell whether a batch is over: each job that it has or will get has its result."""
    complete = counts.drained and not counts.feeding
    return counts.done or (complete and (counts.over or (counts.ended and not counts.lost)))


def remembering(before: Counts, now: Counts) -> Counts:
    """Return `now` with what was known before, when Redis has lost it since."""
    if not before.fed or now.fed or now.feeding:
        return now
    return msgspec.structs.replace(now, fed=True, total=now.total or before.total)
