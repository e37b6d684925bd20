"""SyncProducer: the same as Producer, for programs without an event loop."""

from __future__ import annotations

import asyncio
import queue
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

from nightmill.client.producer import Producer
from nightmill.enqueue.prepare import (
    CHUNK,
    Ready,
    Receipt,
    by_queue,
    check_batch_name,
    defaults_of,
    prepare,
    prepare_item,
    receipts,
    script_args,
)
from nightmill.queue import wire
from nightmill.queue.connection import connect_sync, moment, redis_errors
from nightmill.records.job import now_ms
from nightmill.settings import Settings, load_settings
from nightmill.sources import items_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping
    from datetime import datetime

    from nightmill.client.batch import Batch
    from nightmill.enqueue.feeder import Changed, Fed
    from nightmill.records.counts import Counts
    from nightmill.records.limits import Given, Limits
    from nightmill.records.result import Result
    from nightmill.sources import Template

T = TypeVar("T")


class SyncProducer:
    """Enqueue jobs and read results with plain calls; one connection pool, thread-safe."""

    def __init__(self, redis_url: str | None = None, *, settings: Settings | None = None) -> None:
        """Take a Redis URL, or settings, or neither (the environment: NIGHTMILL_REDIS_URL)."""
        self.settings = settings or load_settings(redis_url=redis_url)
        self.defaults = defaults_of(self.settings)
        self._redis = connect_sync(self.settings)
        self._enqueue = self._redis.register_script(wire.enqueue_script())

    def __enter__(self) -> Self:
        """Connect. Raises QueueUnavailableError when Redis does not answer."""
        with redis_errors():
            self._redis.ping()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self._redis.close()

    def enqueue(  # noqa: PLR0913 - a job has this many facets, each optional and by keyword
        self,
        params: Mapping[str, object] | bytes,
        *,
        job_id: str | None = None,
        batch: str | None = None,
        custom_id: str | None = None,
        expires: datetime | timedelta | None = None,
        delay: timedelta | None = None,
    ) -> Receipt:
        """Enqueue one request; see Producer.enqueue."""
        if isinstance(expires, timedelta):
            with redis_errors():
                expires = moment(*self._redis.execute_command("TIME")) + expires
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
        return self.send([job], delay_ms=delay_ms)[0]

    def enqueue_many(
        self,
        requests: Iterable[Mapping[str, object]],
        *,
        batch: str | None = None,
        template: Template | None = None,
    ) -> list[Receipt]:
        """Enqueue many requests, a few hundred a round trip; see Producer.enqueue_many."""
        done: list[Receipt] = []
        pending: list[Ready] = []
        for number, request in enumerate(requests, 1):
            pending.append(
                prepare_item(request, number, self.defaults, now_ms(), batch, template=template)
            )
            if len(pending) == CHUNK:
                done += self.send(pending)
                pending.clear()
        return done + self.send(pending)

    def feed(
        self,
        rows: Iterable[Mapping[str, object]],
        *,
        batch: str,
        template: Template | None = None,
        changed: Changed | None = None,
    ) -> Fed:
        """Feed a whole batch; see Producer.feed. `rows` are read in the caller's own thread."""
        check_batch_name(batch)
        lines = items_of(rows, self.defaults, template)
        reads: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()

        async def feed() -> Fed:
            async with Producer(settings=self.settings) as producer:
                return await producer.feed_lines(lines, batch, changed, reads.put)

        with ThreadPoolExecutor(1) as thread:
            feeding = thread.submit(lambda: asyncio.run(feed()))
            # It may end before it reads.
            feeding.add_done_callback(lambda _: reads.put(lambda: None))
            reads.get()()
            return feeding.result()

    def send(self, jobs: Iterable[Ready], *, delay_ms: int = 0) -> list[Receipt]:
        """Send prepared jobs; the receipts come in their order."""
        done: list[Receipt] = []
        with redis_errors():
            for group in by_queue(jobs):
                done += receipts(group, self._enqueue(args=script_args(group, delay_ms)))
        return done

    def batch(self, name: str) -> SyncBatch:
        """Return the handle of a batch; see Producer.batch."""
        return SyncBatch(self.settings, name)

    def result(self, job_id: str, *, wait: float | None = 0) -> Result:
        """Return a job's result; see Producer.result. `wait` is in seconds."""

        async def fetch() -> Result:
            async with Producer(settings=self.settings) as producer:
                return await producer.result(job_id, wait=wait)

        return _run_aside(fetch)


class SyncBatch:
    """A batch by its name, with plain calls; see nightmill.client.batch.Batch."""

    def __init__(self, settings: Settings, name: str) -> None:
        """Take where Redis is, and which batch."""
        self.name = name
        self._settings = settings

    def __repr__(self) -> str:
        """Name the batch."""
        return f"<SyncBatch {self.name}>"

    def counts(self) -> Counts:
        """Return how many of its jobs are in each state; see Batch.counts."""
        return self._ask(lambda batch: batch.counts())

    def pause(self, reason: str = "by its producer") -> None:
        """Let no more of its jobs be claimed; see Batch.pause."""
        self._ask(lambda batch: batch.pause(reason))

    def resume(self) -> None:
        """Let its jobs be claimed again; see Batch.resume."""
        self._ask(lambda batch: batch.resume())

    def cancel(self) -> None:
        """End it; see Batch.cancel."""
        self._ask(lambda batch: batch.cancel())

    def limit(self, **given: Unpack[Given]) -> Limits:
        """Hold it to new limits; see Batch.limit."""
        return self._ask(lambda batch: batch.limit(**given))

    def on_complete(self, url: str) -> None:
        """Have `url` told when all that was enqueued so far has ended; see Batch.on_complete."""
        self._ask(lambda batch: batch.on_complete(url))

    def wait(self, timeout: float | None = None, *, keep_waiting: bool = False) -> Counts:
        """Wait until every job of it has its stored result; see Batch.wait."""
        return self._ask(lambda batch: batch.wait(timeout, keep_waiting=keep_waiting))

    def _ask(self, question: Callable[[Batch], Coroutine[object, object, T]]) -> T:
        async def ask() -> T:
            async with Producer(settings=self._settings) as producer:
                return await question(producer.batch(self.name))

        return _run_aside(ask)


def _run_aside(work: Callable[[], Coroutine[object, object, T]]) -> T:
    """Run `work` in an event loop of its own, also when the caller's thread has one running."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()
