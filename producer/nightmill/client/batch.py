"""Batch: one batch by its name, to count, to hold, and to wait for."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final, Unpack

from nightmill.errors import BatchStoppedError, BatchTimeoutError
from nightmill.queue import webhooks
from nightmill.queue.patience import patiently
from nightmill.records.limits import Change

if TYPE_CHECKING:
    from nightmill.queue.batches import Batches
    from nightmill.records.counts import Counts
    from nightmill.records.limits import Given, Limits

LOOK_S: Final = (0.05, 1.0)
"""Between two looks while waiting: first and longest, doubling between, seconds."""
STILL_S: Final = 3.0
"""What stands still for so long, beside a stopped line or with jobs missing, stays so; seconds."""


class Batch:
    """A batch that was or will be fed; get one from `Producer.batch`.

    Every method raises QueueUnavailableError when Redis is away (waiting bears 5 minutes of that).
    """

    def __init__(self, batches: Batches, name: str, model: str) -> None:
        """Take the batches of a Redis, which one, and the model of requests that name none."""
        self.name = name
        self._batches = batches
        self._model = model

    def __repr__(self) -> str:
        """Name the batch."""
        return f"<Batch {self.name}>"

    async def counts(self) -> Counts:
        """Return how many of its jobs are in each state. Raises BatchNotFoundError."""
        await self._batches.require(self.name)
        return await self._batches.counts(self.name)

    async def pause(self, reason: str = "by its producer") -> None:
        """Let no more of its jobs be claimed; calls under way finish. Raises BatchNotFoundError."""
        await self._batches.require(self.name)
        await self._batches.pause(self.name, reason)

    async def resume(self) -> None:
        """Let its jobs be claimed again. Raises BatchNotFoundError."""
        await self._batches.require(self.name)
        await self._batches.resume(self.name)

    async def cancel(self) -> None:
        """End it: calls under way finish, workers write `cancelled` rows of the rest, uncalled.

        Raises BatchNotFoundError.
        """
        await self._batches.require(self.name)
        await self._batches.cancel(self.name)

    async def limit(self, **given: Unpack[Given]) -> Limits:
        """Hold it to new limits from the next claim on; return all it has now.

        `weight` is its share beside other batches (1 to 1000), `concurrency` its calls in flight
        over the fleet, `expires` (a timedelta) counts from now, `budget_usd` and `budget_tokens`
        are for the whole batch; what is not named stays. Raises InvalidLimitError that names the
        limit; it may be called before the batch has a job.
        """
        return await self._batches.limit(self.name, Change.of(**given), model=self._model)

    async def on_complete(self, url: str) -> None:
        """Have `url` told when all that was enqueued so far has ended: call it after the last.

        Workers sign the webhook and try it again for a day. Raises BatchNotFoundError, and
        SettingsError for what is no http(s) address.
        """
        await self._batches.require(self.name)
        await webhooks.arm(self._batches.redis, self.name, url)
        await self._batches.set_total(self.name, 0)

    async def wait(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - as concurrent.futures and arq name it
        *,
        keep_waiting: bool = False,
    ) -> Counts:
        """Wait until every job of it has its stored result, and return the counts.

        A batch that no file is fed to ends when nothing of it is on its way: wait for it after the
        last enqueue. `timeout` is in seconds, None waits for ever. Raises BatchTimeoutError,
        BatchNotFoundError, and, unless `keep_waiting`, BatchStoppedError when nothing more can come
        until somebody acts: it is paused, its line is stopped, or jobs of it were lost.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause, longest = LOOK_S
        still = _Still()
        while True:
            counts = await patiently(self.counts)
            if over(counts):
                return counts
            if not keep_waiting and (reason := await self._stopped(counts, still)):
                raise BatchStoppedError(f'batch "{self.name}" {reason}')
            left = longest if deadline is None else deadline - time.monotonic()
            if left <= 0:
                told = f"{counts.terminal:,} of its jobs are done"
                raise BatchTimeoutError(
                    f'batch "{self.name}" is not done after {timeout:g} s; {told}'
                )
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 2, longest)

    async def _stopped(self, counts: Counts, still: _Still) -> str:
        """Return why nothing more can come of the batch, "" while it can."""
        if counts.in_flight or counts.feeding:
            return ""
        if counts.held:
            told = "; nightmill resume lets it go on" if counts.flag == "paused" else ""
            return f"is {counts.state}: {counts.reason}{told}"
        if not still.since(counts, time.monotonic()):
            return ""
        if counts.drained and counts.total is not None:
            lost = counts.total - counts.terminal
            return f"has {lost:,} jobs neither queued nor stored: feed its source again"
        lines = (await patiently(self._batches.accounts)).values()
        reasons = [line["reason"] for line in lines if line["state"] == "stopped"]
        return f"waits for a stopped line: {reasons[0]}" if reasons else ""


class _Still:
    """Notices that counts have not changed for STILL_S."""

    def __init__(self) -> None:
        self._seen: Counts | None = None
        self._at = 0.0

    def since(self, counts: Counts, now: float) -> bool:
        if counts != self._seen:
            self._seen, self._at = counts, now
        return now - self._at >= STILL_S


def over(counts: Counts) -> bool:
    """Tell whether nothing more will come of a batch: every job that it has, has its result."""
    nothing_more = counts.drained and not counts.feeding
    return counts.done or (nothing_more and (counts.total is None or counts.ended))
