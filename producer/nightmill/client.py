"""Producer: put jobs in the queue and wait for their results (asyncio).

Usage, from any service:

    async with Producer() as producer:
        receipt = await producer.enqueue({"messages": [{"role": "user", "content": "hello"}]})
        result = await producer.result(receipt.job_id, wait=60)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Self

from nightmill import keys, replies, wire
from nightmill.batch import Batches
from nightmill.connect import connect, redis_errors
from nightmill.errors import JobNotFoundError, ResultTimeoutError
from nightmill.handle import Batch
from nightmill.intake import (
    CHUNK,
    Ready,
    Receipt,
    by_queue,
    defaults_of,
    prepare,
    prepare_item,
    receipts,
    script_args,
)
from nightmill.job import now_ms
from nightmill.settings import Settings, load_settings

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from nightmill.result import Result

_POLL_S = (0.01, 0.25)
"""Result polling: first wait and longest wait, doubling between, seconds."""


class Producer:
    """Enqueue jobs and read results; light, and safe to share between tasks of one loop."""

    def __init__(self, redis_url: str | None = None, *, settings: Settings | None = None) -> None:
        """Take a Redis URL, or settings, or neither (the environment: NIGHTMILL_REDIS_URL)."""
        self.settings = settings or load_settings(redis_url=redis_url)
        self.defaults = defaults_of(self.settings)
        self._redis = connect(self.settings)
        self._enqueue = self._redis.register_script(wire.enqueue_script())

    async def __aenter__(self) -> Self:
        """Connect. Raises QueueUnavailableError when Redis does not answer."""
        with redis_errors():
            await self._redis.ping()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def enqueue(  # noqa: PLR0913 - a job has this many facets, each optional and by keyword
        self,
        params: Mapping[str, object] | bytes,
        *,
        job_id: str | None = None,
        batch: str | None = None,
        custom_id: str | None = None,
        expires: datetime | timedelta | None = None,
        delay: timedelta | None = None,
    ) -> Receipt:
        """Enqueue one request; the same id twice is a no-op that the receipt tells.

        Raises InvalidParamsError (naming the field) and QueueUnavailableError.
        """
        job = prepare(
            params,
            self.defaults,
            now_ms(),
            job_id=job_id,
            batch=batch,
            custom_id=custom_id,
            expires=expires,
        )
        delay_ms = int(delay.total_seconds() * 1000) if delay else 0
        return (await self.send([job], delay_ms=delay_ms))[0]

    async def enqueue_many(
        self,
        requests: Iterable[Mapping[str, object]] | AsyncIterable[Mapping[str, object]],
        *,
        batch: str | None = None,
    ) -> list[Receipt]:
        """Enqueue many requests, a few hundred a round trip.

        A request may carry a `custom_id` beside its params, or be `{"custom_id", "params"}` (the
        Message Batches shape). The first invalid one raises InvalidParamsError with its line (from
        1); those of earlier round trips are enqueued, and naming them again is a no-op.
        """
        done: list[Receipt] = []
        pending: list[Ready] = []
        number = 0
        async for request in _aiter(requests):
            number += 1
            pending.append(prepare_item(request, number, self.defaults, now_ms(), batch))
            if len(pending) == CHUNK:
                done += await self.send(pending)
                pending.clear()
        return done + await self.send(pending)

    async def send(self, jobs: Iterable[Ready], *, delay_ms: int = 0) -> list[Receipt]:
        """Send prepared jobs; the receipts come in their order."""
        done: list[Receipt] = []
        with redis_errors():
            for group in by_queue(jobs):
                codes = await self._enqueue(args=script_args(group, delay_ms))
                done += receipts(group, codes)
        return done

    def batch(self, name: str) -> Batch:
        """Return the handle of a batch: its counts, pause, resume, cancel, and `wait`."""
        return Batch(Batches(self._redis), name)

    async def result(self, job_id: str, *, wait: float | None = 0) -> Result:
        """Return a job's result; `wait` is in seconds, None waits for ever, 0 only looks.

        Raises JobNotFoundError (neither queued nor stored), ResultTimeoutError (still on its way)
        and StoreMissingError (a batch job, and the store is not installed here).
        """
        deadline = None if wait is None else time.monotonic() + wait
        pause, longest = _POLL_S
        while True:
            with redis_errors():
                kept, queued = await self._look(job_id)
            if kept or not queued:
                return await self._read(job_id, kept)
            left = longest if deadline is None else deadline - time.monotonic()
            if left <= 0:
                message = f"no result of {job_id} after {wait:g} s; the job is still on its way"
                raise ResultTimeoutError(message)
            await asyncio.sleep(min(pause, left))
            pause = min(pause * 2, longest)

    async def _look(self, job_id: str) -> tuple[bytes | None, bool]:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(keys.RESULT + job_id)
            pipe.exists(keys.PAYLOAD + job_id)
            kept, queued = await pipe.execute()
        return kept, bool(queued)

    async def _read(self, job_id: str, kept: bytes | None) -> Result:
        """Prefer the store's row (it has the whole story), fall back to what Redis keeps."""
        stored = await replies.from_store(self.settings, job_id)
        if stored is not None:
            return stored
        if kept is None:
            message = f"no job {job_id}: neither in the queue nor in the results"
            raise JobNotFoundError(message)
        return replies.from_redis(job_id, kept)


async def _aiter(
    items: Iterable[Mapping[str, object]] | AsyncIterable[Mapping[str, object]],
) -> AsyncIterator[Mapping[str, object]]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
