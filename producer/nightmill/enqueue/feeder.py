"""Feeding: puts the lines of a source into Redis as jobs, a window at a time; it can be resumed.

A job's id comes from its line. So after a crash the same source is fed again: lines with a stored
row are skipped, lines whose job is queued stay queued, and only the rest is enqueued.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Sequence,
)
from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING, Protocol, Self

import msgspec

from nightmill.enqueue.changes import CHOICES, Changed, Changes, explain
from nightmill.enqueue.chunks import chunks_at_hand, chunks_of, good_lines
from nightmill.enqueue.fed import Fed, count
from nightmill.enqueue.fed_whole import FedWhole
from nightmill.enqueue.feeder_lock import FeederLock
from nightmill.enqueue.known import FedFacts, let_workers_report, note
from nightmill.enqueue.planning import Chunk, Planner
from nightmill.enqueue.prepare import CHUNK, Ready, Receipt, Taken
from nightmill.enqueue.reconcile import open_batch, reconcile
from nightmill.enqueue.unfinished import Replacement, Replacer, unfinished
from nightmill.enqueue.window import Window
from nightmill.errors import BatchChangedError, BatchEndedError
from nightmill.queue import keys, webhooks
from nightmill.queue.patience import patiently
from nightmill.records.id_set import IdSet
from nightmill.sources import Line, Rejected, Start, in_thread, live_chunks

if TYPE_CHECKING:
    from nightmill.enqueue.unfinished import Unfinished
    from nightmill.params import Defaults
    from nightmill.queue.batches import Batches
    from nightmill.records.limits import Limits
    from nightmill.settings import Settings
    from nightmill.store import ResultStore, Stored
    from nightmill.store.batches import FedState, StoredBatch


class Sender(Protocol):
    """The part of a Producer that a feeder uses."""

    settings: Settings
    defaults: Defaults

    async def send(self, jobs: Iterable[Ready]) -> list[Receipt]:
        """Send prepared jobs; the receipts come in their order."""


class Feeder:
    """Feeds one batch, as its only feeder, within an `async with` block.

    For a whole batch: `check` its lines, `feed` them, wait until the batch is drained, and feed
    the same lines again as long as rows of them are `missing`.
    """

    def __init__(  # noqa: PLR0913 - the batch, its three connections, and two options
        self,
        batch: str,
        producer: Sender,
        batches: Batches,
        store: ResultStore | None,
        changed: Changed | None = None,
        *,
        on_complete: str | None = None,
        repairs: bool = False,
        content: str | None = None,
    ) -> None:
        """Feed through `producer`; with `store` None, only Redis knows which jobs are finished.

        `changed` says what to do with a request that is not the one stored, queued or in flight
        under its id: "rerun" calls it and replaces the row, "keep" leaves the old one, None refuses
        it. At most `producer.settings.window` jobs of the batch are in Redis at once; 0 means any
        number. `on_complete` is the URL of the batch's webhook; None: the webhook is not changed.
        With `repairs` the lines are all that the batch should have: its total may become smaller.
        With `content`, the content_of of the source, what has all its rows is not read again.
        """
        self.batch = batch
        self.fed = Fed()
        self._producer, self._batches, self._store = producer, batches, store
        self._changed = changed
        self._on_complete = on_complete
        self._repairs = repairs
        self._lock = FeederLock(batches.redis, batch)
        self._ids = IdSet()
        self._window = Window(batches, batch, producer.settings.window)
        self._replacer = Replacer(batches.redis, batch)
        self._planner = Planner(batch, changed, looked_up=bool(store))
        self._whole = FedWhole(batch, content)
        self._all_stored: StoredBatch | None = None
        self._in_redis = False
        self._total_before: int | None = None

    def __repr__(self) -> str:
        """Show the batch and how many lines were fed."""
        return f"<Feeder {self.batch} {self.fed}>"

    async def __aenter__(self) -> Self:
        """Become the batch's feeder.

        Raises BatchBusyError while another process is, BatchEndedError when the batch was cancelled
        or its deadline has passed, SettingsError when `on_complete` is not an http(s) URL.
        """
        await self._lock.__aenter__()
        try:
            if await self._open() and await self._lacks_rows():
                await let_workers_report(self._batches.redis, self._producer.settings.lease_s)
        except BaseException:
            await self._lock.__aexit__()
            raise
        return self

    async def _open(self) -> bool:
        """Make the batch known; return whether Redis had lost it."""
        self._total_before = (await self._batches.counts(self.batch)).total
        lost = await open_batch(self._batches, self.batch, self._store)
        if self._on_complete:
            await webhooks.arm(self._batches.redis, self.batch, self._on_complete)
        return lost

    async def _lacks_rows(self) -> bool:
        """Tell whether jobs of a batch that Redis has lost may be in flight."""
        store = self._store
        if store is None:
            return False
        known, rows = await store.known(self.batch), await store.counts(self.batch)
        return known is None or known.total is None or sum(rows.values()) < known.total

    async def reopen(self, limits: Limits) -> None:
        """Make the batch known again, before its lines are fed to a Redis that has lost jobs.

        `limits` are those that the batch had before. Raises BatchEndedError.
        """
        await patiently(self._open)
        await patiently(lambda: self._batches.remind(self.batch, limits=limits))

    async def __aexit__(self, *_: object) -> None:
        """Let other processes feed the batch."""
        await self._lock.__aexit__()

    async def check(self, lines: Iterable[Line | Rejected]) -> None:
        """Raise BatchChangedError when lines have changed; call it before anything is fed."""
        counts = await self._batches.counts(self.batch)
        self._in_redis = not counts.drained
        if not self._in_redis:
            self._all_stored = await self._whole.stored(self._store)
        if self._all_stored or self._changed or not counts.accepted:
            return
        changes = Changes()
        for chunk in chunks_of(lines, CHUNK):
            good = good_lines(chunk)
            self._planner.compare(good, *await self._known(good), changes)
        if changes.first and self._total_before is not None:  # nothing is fed: it stays as it was
            await note(self._store, self.batch, "fed")
            await self._batches.set_total(self.batch, self._total_before)
        await self._refuse(changes)

    async def _refuse(self, changes: Changes) -> None:
        """Raise BatchChangedError when there are `changes`."""
        if text := await explain(changes, self.batch, self._store):
            raise BatchChangedError(f"{text}; {CHOICES}")

    async def feed(
        self,
        lines: Iterable[Line | Rejected] | AsyncIterable[Line | Rejected],
        *,
        live: bool = False,
        start: Start = in_thread,
    ) -> Fed:
        """Enqueue each line that has neither a row nor a job; set the batch's total at the end.

        `live` lines come from a stream that may pause: the lines that are there are enqueued
        meanwhile, and another thread reads (`start` runs the reading function). `self.fed` is
        updated during feeding. A Rejected line ends feeding: the lines before it are fed, and its
        error is raised. Also raises BatchChangedError, BatchBusyError when the feeder's lock was
        lost, and what Redis and the store raise when they are away for longer than PATIENCE_S.
        """
        if (known := self._all_stored) is not None:
            self.fed = Fed(stored_already=known.total or 0)
            await patiently(self._set_known_total)
            return self.fed
        self.fed, self._ids = Fed(), IdSet()
        self._whole.begin()
        counts = await patiently(lambda: self._batches.counts(self.batch))
        self._in_redis = not counts.drained
        size = self._window.chunk(CHUNK)
        if live or isinstance(lines, AsyncIterable):
            chunks = live_chunks(lines, size, start)
        else:
            chunks = chunks_at_hand(lines, size)
        try:
            async with aclosing(chunks):
                await self._feed_all(chunks)
        except BatchEndedError as ended:
            self.fed = msgspec.structs.replace(self.fed, cut_short=True)
            state: FedState = "expired" if ended.flag == "expired" else "cancelled"
            await patiently(lambda: note(self._store, self.batch, state))
            return self.fed
        await patiently(lambda: reconcile(self._batches, self.batch, self._store))
        await patiently(self._set_total)
        return self.fed

    async def _set_total(self) -> None:
        """Record that the source has ended: in the store first, since Redis may lose it.

        A total of before that is larger stays: jobs that Redis lost are in it. `prune` and a
        repair make it smaller.
        """
        await self._lock.require()
        limits = (await self._batches.counts(self.batch)).limits
        total = await self._batches.total(self.batch, self.fed.total)
        known = await self._store.known(self.batch) if self._store else None
        if known is not None and not self._repairs:
            total = max(total, known.total or 0)
        facts = FedFacts(str(self._ids), *self._whole.facts)
        await note(
            self._store, self.batch, "fed", total=total, fed=facts, limits=limits, known=known
        )
        await self._batches.set_total(self.batch, total)

    async def _set_known_total(self) -> None:
        """Record again that the source has ended, as the store knows it."""
        await self._lock.require()
        await note(self._store, self.batch, "fed")
        if self._all_stored is not None and self._all_stored.total is not None:
            await self._batches.set_total(self.batch, self._all_stored.total)

    async def _feed_all(self, chunks: AsyncIterator[list[Line | Rejected]]) -> None:
        """Feed each chunk; while one is sent to Redis, the next is read."""
        sending: asyncio.Task[None] | None = None
        try:
            async for chunk in chunks:
                good = good_lines(chunk)
                changes = Changes()
                planned = self._planner.plan(good, *await self._known(good), changes)
                if self._changed is None:
                    await self._refuse(changes)
                if sending is not None:
                    await sending
                sending = asyncio.create_task(self._send(planned))
                if len(good) < len(chunk) and isinstance(bad := chunk[len(good)], Rejected):
                    raise bad.error
        except asyncio.CancelledError:
            if sending is not None:
                sending.cancel()
            raise
        finally:
            if sending is not None:
                await sending

    async def missing(self, lines: Iterable[Line | Rejected]) -> int:
        """Return how many of the lines that were fed have no row; call it when none is in Redis.

        A Redis that crashes may lose jobs, and with them every count of them. So the rows are
        counted in the store. `lines`, the same again, are read only when the ids of the rows are
        not exactly those that were fed.
        """
        store = self._store
        await patiently(lambda: reconcile(self._batches, self.batch, store))
        if self._all_stored is not None:
            self._all_stored = None  # should Redis lose the batch now, the lines are read
            return 0
        if store is None:
            counts = await patiently(lambda: self._batches.counts(self.batch))
            return max(0, self.fed.total - counts.terminal)
        reran = self._changed == "rerun" and self.fed.changed  # they have rows of earlier runs
        if not reran and await patiently(lambda: store.ids(self.batch)) == self._ids:
            return 0
        missing = 0
        async with aclosing(chunks_at_hand(islice(lines, self.fed.total), CHUNK)) as chunks:
            async for chunk in chunks:
                good = good_lines(chunk)
                found = await self._stored(good)
                missing += sum(not self._has_row(line, found.get(self._id(line))) for line in good)
        return missing

    def _has_row(self, line: Line, stored: Stored | None) -> bool:
        """Tell whether the row of the run that was fed is there, not only one of an earlier run."""
        if stored is None or self._changed != "rerun" or stored.request_hash is None:
            return stored is not None
        return not self._planner.differs(line, stored)

    async def _send(self, chunk: Chunk) -> None:
        """Send the jobs of `chunk` once the window has room, and count its lines."""
        gone = await self._replace(chunk.replacements) if chunk.replacements else []
        await self._window.make_room(len(chunk.jobs))

        async def send() -> list[Receipt]:
            await self._lock.require()  # each time: Redis may have been away for long
            return await self._producer.send(chunk.jobs)

        receipts = await patiently(send)
        self._ids.add([self._id(line) for line in chunk.lines])
        self._whole.add(chunk.lines)
        fed = self.fed
        waiting = chunk.waiting + len(chunk.replacements)
        done = len(chunk.lines) - len(chunk.jobs) - waiting
        self.fed = Fed(
            new=fed.new + count(receipts, Taken.ENQUEUED),
            queued_already=fed.queued_already + count(receipts, Taken.ALREADY_QUEUED) + waiting,
            stored_already=fed.stored_already + count(receipts, Taken.ALREADY_FINISHED) + done,
            changed=fed.changed + chunk.changed,
        )
        if gone:  # they ended meanwhile: their rows are there now
            again = self._planner.plan(gone, await self._stored(gone), {}, Changes())
            await patiently(lambda: self._producer.send(again.jobs))

    async def _replace(self, items: Sequence[tuple[Line, Replacement]]) -> list[Line]:
        """Give jobs that have not ended their new requests; return the lines whose jobs ended."""

        async def replace() -> list[bool]:
            await self._lock.require()
            return await self._replacer.replace([item for _, item in items])

        there = await patiently(replace)
        return [line for (line, _), found in zip(items, there, strict=True) if not found]

    async def _known(self, lines: list[Line]) -> tuple[dict[str, Stored], dict[str, Unfinished]]:
        """Return what Redis and the store have of `lines`: Redis first, since jobs end meanwhile.

        Redis is asked only when it had jobs of the batch before this feeding.
        """
        waiting: dict[str, Unfinished] = {}
        if self._in_redis:
            redis, defaults = self._batches.redis, self._producer.defaults
            ids = [self._id(line) for line in lines]
            waiting = await patiently(lambda: unfinished(redis, ids, defaults))
        return await self._stored(lines), waiting

    async def _stored(self, lines: list[Line]) -> dict[str, Stored]:
        store = self._store
        if store is None:
            return {}
        return await patiently(lambda: store.lookup([self._id(line) for line in lines]))

    def _id(self, line: Line) -> str:
        return keys.job_id(self.batch, line.custom_id)
