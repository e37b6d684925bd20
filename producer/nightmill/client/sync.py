"""SyncProducer and SyncBatch: Producer and Batch with plain calls, for programs without a loop.

They have no code of their own for Redis: each call runs the asynchronous method. A call that only
enqueues runs it in the calling thread, over a connection that blocks (AtOnce); every other call
runs it in a background thread (LoopThread). Only a source is read in the thread that calls.
"""

from __future__ import annotations

import queue
from abc import ABC, abstractmethod
from contextlib import aclosing
from functools import wraps
from itertools import islice
from typing import TYPE_CHECKING, Concatenate, Generic, ParamSpec, Self, TypeVar

from nightmill.client.at_once import AtOnce
from nightmill.client.batch import Batch
from nightmill.client.loop_thread import LoopThread
from nightmill.client.producer import Producer
from nightmill.enqueue.prepare import (
    CHUNK,
    Receipt,
    batch_for,
    defaults_with,
    prepare_items,
)
from nightmill.sources import items_of

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        Callable,
        Collection,
        Coroutine,
        Generator,
        Iterable,
        Mapping,
    )

    from nightmill.checked.reading import SchemaGiven
    from nightmill.enqueue.changes import Changed
    from nightmill.enqueue.fed import Fed
    from nightmill.records.result import Result
    from nightmill.records.state import JobState
    from nightmill.settings import Settings
    from nightmill.sources import Template

A = TypeVar("A")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class _Blocking(ABC, Generic[A]):
    """Has the methods of an asynchronous class `A` as plain ones; see `_blocking`."""

    @abstractmethod
    def _run(self, work: Callable[[A], Coroutine[object, object, T]]) -> T:
        """Run `work` over the asynchronous object in the background and wait for it."""


def _bound(it: A, method: Callable[Concatenate[A, P], R]) -> Callable[P, R]:
    """Return `method` of `it`, whose class may replace the method."""
    found: Callable[P, R] = getattr(it, method.__name__)
    return found


def _blocking(
    method: Callable[Concatenate[A, P], Coroutine[object, object, T]],
) -> Callable[Concatenate[_Blocking[A], P], T]:
    """Return `method` as a plain method, with its docstring and its signature."""

    @wraps(method)
    def call(self: _Blocking[A], /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(lambda it: _bound(it, method)(*args, **kwargs))

    return call


def direct(
    method: Callable[Concatenate[Producer, P], Coroutine[object, object, T]],
) -> Callable[Concatenate[SyncProducer, P], T]:
    """Return `method` as a plain method that runs it in the calling thread, without a loop.

    The way to another thread and back, and the loop there, cost more than the call itself.
    """

    @wraps(method)
    def call(self: SyncProducer, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._at_once.run(lambda it: _bound(it, method)(*args, **kwargs))

    return call


class SyncProducer(_Blocking[Producer]):
    """Enqueue jobs and read results with plain calls; any thread may call it, also after a fork.

    Close it, or use it in a `with` block: it has a background thread and connections.
    """

    def __init__(self, redis_url: str | None = None, *, settings: Settings | None = None) -> None:
        """Take a Redis URL, or settings, or neither (the environment: NIGHTMILL_REDIS_URL)."""
        self._at_once = AtOnce(redis_url, settings=settings)  # raises SettingsError here and now
        self.settings = used = self._at_once.settings
        self.defaults = self._at_once.defaults
        self._thread = LoopThread(lambda: aclosing(Producer(settings=used)))

    def __enter__(self) -> Self:
        """Connect. Raises QueueUnavailableError when Redis does not answer."""
        self._at_once.run(lambda it: it.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Cancel the calls of other threads, close the connections and end the thread."""
        self._thread.close()
        self._at_once.run(lambda it: it.aclose())

    enqueue = direct(Producer.enqueue)
    send = direct(Producer.send)
    result = _blocking(Producer.result)

    def enqueue_many(
        self,
        requests: Iterable[Mapping[str, object]],
        *,
        batch: str | None = None,
        template: Template | None = None,
    ) -> list[Receipt]:
        """Enqueue many requests, which the calling thread reads; see Producer.enqueue_many."""
        done: list[Receipt] = []
        batch = batch_for(batch, rehearsal=self.settings.rehearsal)
        each = iter(requests)
        while chunk := list(islice(each, CHUNK)):
            done += self.send(
                list(prepare_items(chunk, len(done) + 1, self.defaults, batch, template))
            )
        return done

    def feed(  # noqa: PLR0913 - as Producer.feed
        self,
        rows: Iterable[Mapping[str, object]],
        *,
        batch: str,
        template: Template | None = None,
        changed: Changed | None = None,
        anthropic_version: str | None = None,
        anthropic_beta: Collection[str] | str = (),
        schema: SchemaGiven | None = None,
    ) -> Fed:
        """Feed a whole batch, whose `rows` the calling thread reads; see Producer.feed."""
        batch_for(batch, rehearsal=self.settings.rehearsal)
        if schema is not None:
            self.batch(batch, schema=schema).accept(schema=schema)
        defaults = defaults_with(self.defaults, anthropic_version, anthropic_beta)
        lines = items_of(rows, defaults, template)
        reads: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        with self._thread.running(
            lambda producer: producer.feed_lines(lines, batch, changed, reads.put)
        ) as feeding:
            # Feeding may end before it reads.
            feeding.add_done_callback(lambda _: reads.put(lambda: None))
            reads.get()()
            return feeding.result()

    def batch(self, name: str, *, schema: SchemaGiven | None = None) -> SyncBatch:
        """Return the handle of a batch; see Producer.batch."""
        return SyncBatch(self._thread, name, schema)

    def _run(self, work: Callable[[Producer], Coroutine[object, object, T]]) -> T:
        return self._thread.run(work)


class SyncBatch(_Blocking[Batch]):
    """A batch by its name, with plain calls; get one from `SyncProducer.batch`."""

    def __init__(
        self, thread: LoopThread[Producer], name: str, schema: SchemaGiven | None = None
    ) -> None:
        """Take the background thread of a SyncProducer, and the batch's name; see Batch."""
        self.name = name
        self._schema = schema
        self._thread = thread

    def __repr__(self) -> str:
        """Name the batch."""
        return f"<SyncBatch {self.name}>"

    counts = _blocking(Batch.counts)
    pause = _blocking(Batch.pause)
    resume = _blocking(Batch.resume)
    cancel = _blocking(Batch.cancel)
    limit = _blocking(Batch.limit)
    accept = _blocking(Batch.accept)
    on_complete = _blocking(Batch.on_complete)
    wait = _blocking(Batch.wait)

    def results(
        self, *, after: str | None = None, statuses: Collection[JobState | str] | None = None
    ) -> Generator[Result]:
        """Yield its stored results; see Batch.results."""

        async def opened(producer: Producer) -> AsyncGenerator[list[Result], None]:
            return self._of(producer).pages(after=after, statuses=statuses)

        async def following(_: Producer) -> list[Result] | None:
            return await anext(pages, None)

        pages = self._thread.run(opened)
        try:
            while (page := self._thread.run(following)) is not None:
                yield from page
        finally:
            self._thread.run(lambda _: pages.aclose())

    def _run(self, work: Callable[[Batch], Coroutine[object, object, T]]) -> T:
        return self._thread.run(lambda producer: work(self._of(producer)))

    def _of(self, producer: Producer) -> Batch:
        return producer.batch(self.name, schema=self._schema)
