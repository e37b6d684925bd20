"""Producers in memory: they check requests as the real ones do, and answer at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from typing import TYPE_CHECKING, Final, TypeVar, Unpack, cast

import msgspec

from nightmill.checked.reading import Outputs, by_schema, usable
from nightmill.client.batch import Batch
from nightmill.client.producer import Producer
from nightmill.client.sync import SyncProducer, direct
from nightmill.enqueue.changes import Changed
from nightmill.enqueue.fed import Fed
from nightmill.enqueue.prepare import Ready, Receipt, Taken, defaults_of, ready_line
from nightmill.errors import (
    BatchEndedError,
    BatchNotFoundError,
    BatchStoppedError,
    JobNotFoundError,
    ResultTimeoutError,
)
from nightmill.queue import wire
from nightmill.records.acceptance import Acceptance, Accepted, changed
from nightmill.records.counts import Counts
from nightmill.records.job import now_ms
from nightmill.records.limits import Change, Given, Limits
from nightmill.records.place import Place
from nightmill.records.result import Result
from nightmill.records.state import JobState
from nightmill.settings import Settings, load_settings
from nightmill.sources import Line, Rejected, Start, in_thread
from nightmill.testing.replies import Reply, Request, echo, result_of
from nightmill.testing.stand_ins import Clock, Here

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from redis.asyncio import Redis

    from nightmill.checked.reading import SchemaGiven
    from nightmill.client.at_once import AtOnce
    from nightmill.client.loop_thread import LoopThread

T = TypeVar("T")
PRICE: Final = (0.0, 0.0)
"""A call in memory costs nothing."""


class MemoryProducer(Producer):
    """A Producer without Redis and without calls: for the tests of a service.

    `answer` is called with each request and says how its job ends; by default the answer repeats
    the last message. `requests` are the requests that were enqueued, in order. Costs are 0, and
    delays, expiry and `changed` have no effect.
    """

    def __init__(
        self, answer: Callable[[Request], Reply] | str = echo, *, settings: Settings | None = None
    ) -> None:
        """Take a function of the request, or the one text of all answers."""
        self.settings = settings or load_settings()
        self.defaults = defaults_of(self.settings)
        self.answer: Callable[[Request], Reply] | str = answer
        self.requests: list[Request] = []
        self.results: dict[str, Result] = {}
        self.batches: dict[str, MemoryBatch] = {}
        self._handles: dict[str, MemoryBatch] = {}
        self.queued: dict[str, Ready] = {}
        self._redis = cast("Redis", Clock())
        self._schemas = {}

    async def aclose(self) -> None:
        """Keep everything: the test looks at it afterwards."""

    async def send(self, jobs: Iterable[Ready], *, delay_ms: int = 0) -> list[Receipt]:
        """Answer prepared jobs; see Producer.send."""
        del delay_ms
        done = []
        for job in jobs:
            batch = self._batch(job.batch)
            if batch is not None and batch.flag == "cancelled":
                raise BatchEndedError(job.batch, batch.flag)
            taken = Taken.ENQUEUED
            if job.job_id in self.results:
                taken = Taken.ALREADY_FINISHED
            elif job.job_id in self.queued:
                taken = Taken.ALREADY_QUEUED
            else:
                self.queued[job.job_id] = job
                self.requests.append(msgspec.json.decode(wire.decode_job(job.payload)[0].params))
                self.work()
            done.append(Receipt(job_id=job.job_id, taken=taken, warnings=job.warnings))
        return done

    async def feed_lines(
        self,
        lines: Iterable[Line | Rejected] | AsyncIterable[Line | Rejected],
        batch: str,
        changed: Changed | None = None,
        start: Start = in_thread,
    ) -> Fed:
        """Feed checked lines; see Producer.feed."""
        del changed, start
        batch = self.name_of(batch) or batch
        taken = dict.fromkeys(Taken, 0)
        if isinstance(lines, AsyncIterable):
            lines = [line async for line in lines]
        for line in lines:
            if isinstance(line, Rejected):
                raise line.error
            for receipt in await self.send([ready_line(line, batch, now_ms(), looked_up=False)]):
                taken[receipt.taken] += 1
        return Fed(
            new=taken[Taken.ENQUEUED],
            queued_already=taken[Taken.ALREADY_QUEUED],
            stored_already=taken[Taken.ALREADY_FINISHED],
        )

    def work(self) -> None:
        """Answer the queued jobs of batches that are not paused; a change of `answer` needs it."""
        for job_id, job in list(self.queued.items()):
            batch = self._batch(job.batch)
            if batch is None or not batch.flag:
                answer = self.answer
                queued, at = wire.decode_job(job.payload)
                request = msgspec.json.decode(queued.params)
                reply = answer if isinstance(answer, str) else answer(request)
                if reply is not None:
                    self.results[job_id] = result_of(job_id, queued, at, reply)
                    del self.queued[job_id]

    def batch(self, name: str, *, schema: SchemaGiven | None = None) -> MemoryBatch:
        """Return the batch called `name`; see Producer.batch."""
        name = self.name_of(name) or name
        self.schema_of(name, schema)
        return self._handles.setdefault(name, MemoryBatch(self, name))

    async def result(
        self, job_id: str, *, wait: float | None = 0, schema: SchemaGiven | None = None
    ) -> Result:
        """Return a job's result. A job that is queued raises ResultTimeoutError at once."""
        self.work()
        if (row := self.results.get(job_id)) is not None:
            if schema is not None:
                return by_schema(schema).read(msgspec.structs.replace(row))
            return self.batch(row.batch).outputs.read(row) if row.batch else row
        if job_id in self.queued:
            raise ResultTimeoutError(f"no result of {job_id}: it is still queued (waited {wait} s)")
        raise JobNotFoundError(f"no job {job_id}: neither in the queue nor in the results")

    def _batch(self, name: str) -> MemoryBatch | None:
        return self.batches.setdefault(name, self.batch(name)) if name else None


class MemoryBatch(Batch):
    """A batch of a MemoryProducer."""

    def __init__(self, producer: MemoryProducer, name: str) -> None:
        """Take its producer and its name."""
        self.name = name
        self.flag, self.reason, self.limits = "", "", Limits()
        self.acceptance, self.webhooks = Acceptance(), list[str]()
        self._producer = producer

    async def counts(self) -> Counts:
        """Return how many of its jobs are in each state. Raises BatchNotFoundError."""
        self._require()
        self._producer.work()
        rows, queued = self._rows(), self._queued()
        ended = Counter(str(row.status) for row in rows)
        return Counts(
            total=len(rows) + len(queued),
            queued=len(queued),
            succeeded=ended["succeeded"],
            failed=ended["failed"],
            cancelled=ended["cancelled"],
            expired=ended["expired"],
            flag=self.flag,
            reason=self.reason,
            limits=self.limits,
        )

    async def pause(self, reason: str = "by its producer") -> None:
        """Leave its jobs queued from now on. Raises BatchNotFoundError, BatchEndedError."""
        self._require_open()
        self.flag, self.reason = "paused", reason

    async def resume(self) -> None:
        """Answer its jobs again. Raises BatchNotFoundError, BatchEndedError."""
        self._require_open()
        self.flag = self.reason = ""
        self._producer.work()

    async def cancel(self) -> None:
        """End it: every queued job gets a `cancelled` row. Raises BatchNotFoundError."""
        self._require()
        self.flag, self.reason = "cancelled", "by its producer"
        for job in self._queued():
            queued, at = wire.decode_job(job.payload)
            self._producer.results[job.job_id] = result_of(job.job_id, queued, at, None)
            del self._producer.queued[job.job_id]

    async def limit(self, **given: Unpack[Given]) -> Limits:
        """Keep limits, which have no effect here. Raises InvalidLimitError."""
        self.limits = Change.of(**given).over(self.limits, now_ms=now_ms(), prices=PRICE)
        self._producer.batches[self.name] = self
        return self.limits

    async def accept(self, **given: Unpack[Accepted]) -> Acceptance:
        """Keep what it accepts: it says what an output is. Raises InvalidAcceptanceError."""
        self.acceptance = changed(self.acceptance, usable(given))
        self._producer.batches[self.name] = self
        return self.acceptance

    async def on_complete(self, url: str) -> None:
        """Keep the address in `webhooks`; nothing is sent. Raises BatchNotFoundError."""
        self._require()
        self.webhooks.append(url)

    async def wait(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - as in Batch
        *,
        keep_waiting: bool = False,
    ) -> Counts:
        """Return the counts when all of its jobs have ended; raise BatchStoppedError otherwise."""
        del timeout, keep_waiting
        counts = await self.counts()
        if not counts.drained:
            why = f"is paused: {self.reason}" if self.flag else f"has {counts.queued} queued jobs"
            raise BatchStoppedError(f'batch "{self.name}" {why}')
        return counts

    async def pages(
        self, *, after: str | None = None, statuses: Collection[JobState | str] | None = None
    ) -> AsyncGenerator[list[Result], None]:
        """Yield its results in one list; see Batch.results."""
        self._require()
        start = (-1, "") if after is None else Place.of_cursor(after)
        rows = sorted((Place(row.seq or 0, row.job_id), row) for row in self._rows())
        chosen = None if statuses is None else {JobState(each) for each in statuses}
        found = [row for at, row in rows if at > start and (chosen is None or row.status in chosen)]
        yield [self.outputs.read(row) for row in found]

    @property
    def outputs(self) -> Outputs:
        """What reads the outputs of its results."""
        return Outputs(self.acceptance, self._producer.schema_of(self.name))

    def _rows(self) -> Sequence[Result]:
        return [row for row in self._producer.results.values() if row.batch == self.name]

    def _queued(self) -> Sequence[Ready]:
        return [job for job in self._producer.queued.values() if job.batch == self.name]

    def _require(self) -> None:
        if self.name not in self._producer.batches:
            known = ", ".join(self._producer.batches) or "none"
            raise BatchNotFoundError(f'no batch "{self.name}"; batches: {known}')

    def _require_open(self) -> None:
        self._require()
        if self.flag == "cancelled":
            raise BatchEndedError(self.name, self.flag)


class SyncMemoryProducer(SyncProducer):
    """A SyncProducer without Redis; `memory` is the MemoryProducer behind it."""

    def __init__(
        self, answer: Callable[[Request], Reply] | str = echo, *, settings: Settings | None = None
    ) -> None:
        """Take what MemoryProducer takes."""
        self.memory = MemoryProducer(answer, settings=settings)
        self.settings, self.defaults = self.memory.settings, self.memory.defaults
        self._at_once = cast("AtOnce", Here(self.memory))
        self._thread = cast("LoopThread[Producer]", self._at_once)

    feed = direct(Producer.feed)
