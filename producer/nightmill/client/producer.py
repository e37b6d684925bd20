"""Producer: put jobs in the queue and wait for their results (asyncio).

Usage, from any service:

    async with Producer() as producer:
        receipt = await producer.enqueue({"messages": [{"role": "user", "content": "hello"}]})
        result = await producer.result(receipt.job_id, wait=60)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Self, TypeVar

import msgspec

from nightmill.checked.reading import Outputs, accepted_as, by_schema, usable
from nightmill.client.batch import Batch
from nightmill.client.stored import acceptance_of, from_store, place_of, store_beside
from nightmill.enqueue.changes import Changed
from nightmill.enqueue.fed import Fed
from nightmill.enqueue.feeder import Feeder
from nightmill.enqueue.prepare import (
    CHUNK,
    Ready,
    Receipt,
    Taken,
    batch_for,
    by_queue,
    defaults_of,
    defaults_with,
    prepare,
    prepare_items,
    receipts,
    script_args,
)
from nightmill.enqueue.unfinished import unfinished
from nightmill.errors import JobNotFoundError, ResultTimeoutError
from nightmill.queue import keys, result_keys, wire
from nightmill.queue.batches import Batches
from nightmill.queue.connection import connect, moment, redis_errors
from nightmill.queue.patience import waits
from nightmill.records.job import now_ms, rehearsal_of
from nightmill.records.state import JobState
from nightmill.settings import Settings, load_settings
from nightmill.sources import Start, in_thread, items_of, live_chunks, rows_of

if TYPE_CHECKING:
    from datetime import datetime

    from nightmill.checked.reading import SchemaGiven
    from nightmill.records.acceptance import Accepted
    from nightmill.records.result import Result
    from nightmill.sources import Line, Rejected, Template

T = TypeVar("T")

_POLL_S = (0.01, 0.25)
"""Waits between two looks for a result, seconds: the first one, doubled up to the longest."""


class Producer:
    """Enqueue jobs and read results; the tasks of one event loop may share it."""

    def __init__(self, redis_url: str | None = None, *, settings: Settings | None = None) -> None:
        """Take a Redis URL, or settings, or neither (the environment: NIGHTMILL_REDIS_URL)."""
        self.settings = settings or load_settings(redis_url=redis_url)
        self.defaults = defaults_of(self.settings)
        self._redis = connect(self.settings)
        self._enqueue = self._redis.register_script(wire.script("enqueue"))
        self._schemas: dict[str, SchemaGiven] = {}

    async def __aenter__(self) -> Self:
        """Connect. Raises QueueUnavailableError when Redis does not answer."""
        with redis_errors():
            await self._redis.ping()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self.aclose()

    async def aclose(self) -> None:
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
        on_complete: str | None = None,
        anthropic_version: str | None = None,
        anthropic_beta: Collection[str] | str = (),
        accept: Accepted | None = None,
        payer: str | None = None,
    ) -> Receipt:
        """Enqueue one request; for an id that is queued or finished, only say so in the receipt.

        `params` is a Messages request, or `{"prompt": "..."}` with other request fields.
        The receipt also says when the queued job has another request, which it keeps.
        `job_id` defaults to `<batch>:<custom_id>` in a batch and to a UUIDv7 otherwise. `expires`
        is a deadline, or a time from now by Redis's clock; None: none. `delay` is the time before
        the first call may start. `on_complete` is where a webhook goes when this single
        job has ended. `anthropic_version` and `anthropic_beta` become headers of its calls: the API
        version of a request that names none, and betas. `accept` says which answers are its
        results, instead of its batch's acceptance: see `Batch.accept`. `payer` is the key of the
        HTTP gateway whose budget pays.
        Raises InvalidParamsError (naming the field), InvalidAcceptanceError and
        QueueUnavailableError.
        """
        if isinstance(expires, timedelta):
            with redis_errors():
                expires = moment(*await self._redis.execute_command("TIME")) + expires
        job = prepare(
            params,
            defaults_with(self.defaults, anthropic_version, anthropic_beta),
            now_ms(),
            job_id=job_id,
            batch=self.name_of(batch),
            custom_id=custom_id,
            expires=expires,
            on_complete=on_complete,
            accept=None if accept is None else usable(accept),
            payer=payer,
        )
        delay_ms = int(delay.total_seconds() * 1000) if delay else 0
        return (await self.send([job], delay_ms=delay_ms))[0]

    async def enqueue_many(
        self,
        requests: Iterable[Mapping[str, object]] | AsyncIterable[Mapping[str, object]],
        *,
        batch: str | None = None,
        template: Template | None = None,
    ) -> list[Receipt]:
        """Enqueue many requests, CHUNK in a round trip; use `feed` for a whole batch.

        A request may carry a `custom_id` beside its params, or be `{"custom_id", "params"}` (the
        Message Batches shape) or `{"prompt", ...}`; with a `template` it is a row of any columns.
        The first invalid one raises InvalidParamsError with its line (from 1). Those of earlier
        round trips are enqueued then; enqueueing them again changes nothing.
        """
        done: list[Receipt] = []
        batch = self.name_of(batch)
        async with aclosing(_chunks(rows_of(requests))) as chunks:
            async for chunk in chunks:
                first = len(done) + 1
                done += await self.send(prepare_items(chunk, first, self.defaults, batch, template))
        return done

    async def feed(  # noqa: PLR0913 - a batch has this many facets, each optional and by keyword
        self,
        rows: Iterable[Mapping[str, object]] | AsyncIterable[Mapping[str, object]],
        *,
        batch: str,
        template: Template | None = None,
        changed: Changed | None = None,
        anthropic_version: str | None = None,
        anthropic_beta: Collection[str] | str = (),
        schema: SchemaGiven | None = None,
    ) -> Fed:
        """Feed a whole batch of any length, and return how many rows were new, queued or stored.

        `rows` are requests, `{"custom_id", "params"}`, `{"prompt", ...}` or, with a `template`,
        rows of any columns; a DataFrame of pandas or polars is rows too. At most WINDOW jobs of the
        batch are in Redis at once: the source is read as workers make room, and closed at the end.
        A source that is not asynchronous is read in a thread.

        After a crash, feed the same rows again: rows that are queued or stored are skipped. So
        rows need ids, or the same order each time. `changed` says what to do with a stored request
        that is another one now: "rerun", "keep", or None to refuse it. `anthropic_version` and
        `anthropic_beta` are for all rows; see `enqueue`.

        The first bad row raises InvalidParamsError with its line; the rows before it are fed.
        Raises BatchBusyError, BatchChangedError, QueueUnavailableError, SchemaError, and
        StoreMismatchError when the results store here is not the one that the workers use.
        """
        if schema is not None:
            await self.batch(batch, schema=schema).accept(schema=schema)
        defaults = defaults_with(self.defaults, anthropic_version, anthropic_beta)
        return await self.feed_lines(items_of(rows, defaults, template), batch, changed)

    async def feed_lines(
        self,
        lines: Iterable[Line | Rejected] | AsyncIterable[Line | Rejected],
        batch: str,
        changed: Changed | None = None,
        start: Start = in_thread,
    ) -> Fed:
        """Feed checked lines; see `feed`. `start` runs the function that reads them."""
        batch = self.name_of(batch) or batch
        async with (
            store_beside(self.settings, self._redis) as store,
            Feeder(batch, self, Batches(self._redis), store, changed) as feeder,
        ):
            return await feeder.feed(lines, live=True, start=start)

    async def send(self, jobs: Iterable[Ready], *, delay_ms: int = 0) -> list[Receipt]:
        """Send prepared jobs, which may start after `delay_ms`; receipts come in their order."""
        done: list[Receipt] = []
        with redis_errors():
            for group in by_queue(jobs):
                codes = await self._enqueue(args=script_args(group, delay_ms))
                done += await self._compared(group, receipts(group, codes))
        return done

    async def _compared(self, jobs: Sequence[Ready], made: list[Receipt]) -> list[Receipt]:
        """Return receipts that say which jobs are in Redis already, with another request."""
        again = {
            job.job_id: job
            for job, receipt in zip(jobs, made, strict=True)
            if receipt.taken is Taken.ALREADY_QUEUED
        }
        if not again:
            return made
        there = await unfinished(self._redis, list(again), self.defaults)
        differing = {
            job_id
            for job_id, job in there.items()
            if job.request != _request_in(again[job_id].payload)
        }
        return [
            msgspec.structs.replace(receipt, differs=True)
            if receipt.job_id in differing
            else receipt
            for receipt in made
        ]

    def batch(self, name: str, *, schema: SchemaGiven | None = None) -> Batch:
        """Return the batch called `name`; nothing is sent yet.

        In a rehearsal (setting REHEARSAL) it is NAME@rehearsal. Where `schema` is a class of
        pydantic, `Result.parsed` is an instance of it; None takes the last one of this batch.
        """
        name = rehearsal_of(name) if self.settings.rehearsal else name
        return Batch(Batches(self._redis), name, self.settings, self.schema_of(name, schema))

    def schema_of(self, batch: str, given: SchemaGiven | None = None) -> SchemaGiven | None:
        """Return `given` and remember it for `batch`; for None return the one remembered."""
        if given is not None:
            self._schemas[batch] = given
        return self._schemas.get(batch)

    def name_of(self, batch: str | None) -> str | None:
        """Return the batch that jobs of `batch` go to; raises InvalidParamsError for a bad name."""
        return batch_for(batch, rehearsal=self.settings.rehearsal)

    async def result(
        self, job_id: str, *, wait: float | None = 0, schema: SchemaGiven | None = None
    ) -> Result:
        """Return a job's result. Wait for it for `wait` seconds; 0 only looks, None has no end.

        `Result.parsed` is read by the schema of its batch. For a single job, give its `schema`.
        Raises JobNotFoundError (neither queued nor stored), ResultTimeoutError (still queued or in
        flight) and StoreMissingError (a batch job, and the store is not installed here).
        """
        deadline = None if wait is None else time.monotonic() + wait
        pauses, longest = waits(*_POLL_S), _POLL_S[1]
        while True:
            with redis_errors():
                kept, queued = await self._look(job_id)
            if kept or not queued:
                row = await self._read(job_id, kept)
                return await self._with_output(row, schema)
            left = longest if deadline is None else deadline - time.monotonic()
            if left <= 0:
                message = f"no result of {job_id} after {wait:g} s; it is still queued or in flight"
                raise ResultTimeoutError(message)
            await asyncio.sleep(min(next(pauses), left))

    async def _look(self, job_id: str) -> tuple[bytes | None, bool]:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(keys.RESULT + job_id)
            pipe.exists(keys.PAYLOAD + job_id)
            kept, queued = await pipe.execute()
        return kept, bool(queued)

    async def _read(self, job_id: str, kept: bytes | None) -> Result:
        """Read the store's row, which has all attempts, or else what Redis keeps of the result."""
        stored = await from_store(self.settings, self._redis, job_id)
        if stored is not None:
            return stored
        if kept is None:
            message = f"no job {job_id}: neither in the queue nor in the results"
            raise JobNotFoundError(message)
        return result_keys.from_redis(job_id, kept, looked_in=place_of(self.settings))

    async def _with_output(self, row: Result, schema: SchemaGiven | None) -> Result:
        """Return `row` with its output, when its batch or `schema` says what that is."""
        if row.status is not JobState.SUCCEEDED:
            return row
        if schema is not None:
            return by_schema(schema).read(row)
        if row.batch is None:
            return row
        accept = await acceptance_of(self.settings, self._redis, row.batch)
        return Outputs(accepted_as(accept), self._schemas.get(row.batch)).read(row)


def _request_in(payload: bytes) -> bytes:
    """Return the request of a payload as requests are compared."""
    job, _ = wire.decode_job(payload)
    return job.api.beside(bytes(job.params))


async def _chunks(items: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[Sequence[T], None]:
    """Yield `items`, CHUNK at a time; an iterator is read in a thread, because it may block."""
    if isinstance(items, Sequence):
        for first in range(0, len(items), CHUNK):
            yield items[first : first + CHUNK]
        return
    async with aclosing(live_chunks(items, CHUNK)) as chunks:
        async for chunk in chunks:
            yield chunk
