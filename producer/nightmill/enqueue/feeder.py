"""Feeding: from the lines of a source to jobs in Redis, a window at a time, resumable.

A job's id comes from its line, so feeding a source again after any crash goes on where it ended:
what is stored is skipped, what is queued stays, and only the rest is new.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Iterator
from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING, Final, Literal, Protocol, Self, TypeVar

import msgspec

from nightmill.enqueue.feeder_lock import FeederLock
from nightmill.enqueue.prepare import CHUNK, Ready, Receipt, Taken, ready_line
from nightmill.enqueue.reconcile import open_batch, reconcile
from nightmill.enqueue.window import Window
from nightmill.errors import BatchChangedError, BatchEndedError
from nightmill.queue import keys, webhooks
from nightmill.queue.patience import patiently
from nightmill.records.job import now_ms, request_hash
from nightmill.sources import Line, Rejected, Start, in_thread, live_chunks

if TYPE_CHECKING:
    from nightmill.queue.batches import Batches
    from nightmill.settings import Settings
    from nightmill.store import ResultStore, Stored

T = TypeVar("T")

BITE: Final = 50
"""Lines that are read between two looks at the sockets."""

Changed = Literal["rerun", "keep"]


class Fed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the lines of one pass; `changed` tells how many of them had changed.

    `cut_short` says that the batch ended (cancelled, expired) before its source did: the lines
    after that were never accepted.
    """

    new: int = 0
    queued_already: int = 0
    stored_already: int = 0
    changed: int = 0
    cut_short: bool = False

    @property
    def total(self) -> int:
        """The lines of the pass."""
        return self.new + self.queued_already + self.stored_already


class Sender(Protocol):
    """What a feeder needs of a Producer."""

    settings: Settings

    async def send(self, jobs: Iterable[Ready]) -> list[Receipt]:
        """Send prepared jobs; the receipts come in their order."""


class Feeder:
    """Feeds one batch, as its only feeder, within an `async with` block.

    To see a batch through: `check` and `feed` its lines, wait until it is drained, and while jobs
    were `lost` feed the same lines again.
    """

    def __init__(  # noqa: PLR0913 - what is fed through which connections, and two options
        self,
        batch: str,
        producer: Sender,
        batches: Batches,
        store: ResultStore | None,
        changed: Changed | None = None,
        *,
        on_complete: str | None = None,
    ) -> None:
        """Feed through `producer`; without a `store` only Redis tells what is finished.

        `changed` says what to do with a request that is not the one stored under its id: store
        the new one's answer instead (`rerun`) or leave the row (`keep`); None refuses it. At most
        `producer.settings.window` jobs of the batch are in Redis at once, 0 means any number.
        `on_complete` is the address that a worker tells when the batch is done.
        """
        self.batch = batch
        self.fed = Fed()
        self._producer, self._batches, self._store = producer, batches, store
        self._changed = changed
        self._on_complete = on_complete
        self._lock = FeederLock(batches.redis, batch)
        self._window = Window(batches, batch, producer.settings.window)

    def __repr__(self) -> str:
        """Say how far it is."""
        return f"<Feeder {self.batch} {self.fed}>"

    async def __aenter__(self) -> Self:
        """Become the batch's feeder.

        Raises BatchBusyError while another process is, BatchEndedError when the batch was cancelled
        or its deadline has passed, SettingsError for an `on_complete` that is no address.
        """
        await self._lock.__aenter__()
        try:
            await open_batch(self._batches, self.batch, self._store)
            if self._on_complete:
                await webhooks.arm(self._batches.redis, self.batch, self._on_complete)
        except BaseException:
            await self._lock.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Let another feed the batch."""
        await self._lock.__aexit__()

    async def check(self, lines: Iterable[Line | Rejected]) -> None:
        """Raise BatchChangedError for the first line that changed, before anything is fed."""
        if self._changed or not (await self._batches.counts(self.batch)).terminal:
            return
        for chunk in _chunks(lines, CHUNK):
            good = _good(chunk)
            found = await self._stored(good)
            for line in good:
                self._require_same(line, found.get(self._id(line)))

    async def feed(
        self,
        lines: Iterable[Line | Rejected] | AsyncIterable[Line | Rejected],
        *,
        live: bool = False,
        start: Start = in_thread,
    ) -> Fed:
        """Enqueue each line that has neither a row nor a job, and note the batch's total.

        `live` lines come from a stream: what is there goes in while it pauses, and reading it
        blocks nobody (`start` finds the thread that reads). `self.fed` follows the feeding. Stops
        at a Rejected line, with those before it fed, and raises its error. Raises
        BatchChangedError, BatchBusyError when the feeder's place was lost, and what Redis and the
        store raise when they are away for longer than PATIENCE_S.
        """
        self.fed = Fed()
        size = self._window.chunk(CHUNK)
        if live or isinstance(lines, AsyncIterable):
            chunks = live_chunks(lines, size, start)
        else:
            chunks = _chunks_at_hand(lines, size)
        try:
            async with aclosing(chunks):
                await self._feed_all(chunks)
        except BatchEndedError:
            self.fed = msgspec.structs.replace(self.fed, cut_short=True)
            return self.fed
        await patiently(lambda: reconcile(self._batches, self.batch, self._store))
        await patiently(lambda: self._batches.set_total(self.batch, self.fed.total))
        return self.fed

    async def _feed_all(self, chunks: AsyncIterator[list[Line | Rejected]]) -> None:
        """Feed each chunk; the next is read while one is on its way to Redis."""
        sending: asyncio.Task[None] | None = None
        try:
            async for chunk in chunks:
                good = _good(chunk)
                jobs, changed = self._jobs(good, await self._stored(good))
                if sending is not None:
                    await sending
                sending = asyncio.create_task(self._send(jobs, len(good), changed))
                if len(good) < len(chunk) and isinstance(bad := chunk[len(good)], Rejected):
                    raise bad.error
        except asyncio.CancelledError:
            if sending is not None:
                sending.cancel()
            raise
        finally:
            if sending is not None:
                await sending

    async def lost(self) -> int:
        """Return how many jobs have neither a row nor a place in Redis; 0 while any is under way.

        A Redis that lost its last second loses jobs; feeding the lines again brings them back.
        """
        await patiently(lambda: reconcile(self._batches, self.batch, self._store))
        counts = await patiently(lambda: self._batches.counts(self.batch))
        if counts.total is None or not counts.drained:
            return 0
        return max(0, counts.total - counts.terminal)

    async def _send(self, jobs: list[Ready], lines: int, changed: int) -> None:
        """Send the `jobs` of so many `lines`, once the window has room, and count them."""
        await self._window.make_room(len(jobs))
        self._lock.require()
        receipts = await patiently(lambda: self._producer.send(jobs))
        fed = self.fed
        self.fed = Fed(
            new=fed.new + _count(receipts, Taken.ENQUEUED),
            queued_already=fed.queued_already + _count(receipts, Taken.ALREADY_QUEUED),
            stored_already=fed.stored_already
            + _count(receipts, Taken.ALREADY_FINISHED)
            + lines
            - len(jobs),
            changed=fed.changed + changed,
        )

    def _jobs(self, lines: list[Line], found: dict[str, Stored]) -> tuple[list[Ready], int]:
        """Return the jobs of those `lines` that are to be enqueued, and how many had changed."""
        at = now_ms()
        jobs, changed = [], 0
        for line in lines:
            stored = found.get(self._id(line))
            if stored is None:
                jobs.append(ready_line(line, self.batch, at, asked=self._store is not None))
            elif self._differs(line, stored):
                changed += 1
                if self._changed is None:
                    self._require_same(line, stored)
                if self._changed == "rerun":
                    jobs.append(ready_line(line, self.batch, at, stored))
        return jobs, changed

    def _differs(self, line: Line, stored: Stored) -> bool:
        """Whether the stored row answers another request.

        The row of a job that was unreadable answers this one, unless it is to be run again.
        """
        if stored.request_hash is None:
            return self._changed == "rerun"
        asked = request_hash(line.body, rehearsal=self._producer.settings.rehearsal)
        return stored.request_hash != asked

    def _require_same(self, line: Line, stored: Stored | None) -> None:
        if stored is not None and self._differs(line, stored):
            message = (
                f'line {line.number}: "{line.custom_id}" is stored in batch "{self.batch}" with '
                "another request (its text, model or settings changed, or one of the two is a "
                "rehearsal): --changed rerun pays for "
                "it again, --changed keep leaves the stored result, --batch NAME starts afresh"
            )
            raise BatchChangedError(message)

    async def _stored(self, lines: list[Line]) -> dict[str, Stored]:
        store = self._store
        if store is None:
            return {}
        return await patiently(lambda: store.lookup([self._id(line) for line in lines]))

    def _id(self, line: Line) -> str:
        return keys.job_id(self.batch, line.custom_id)


def _chunks(lines: Iterable[T], size: int) -> Iterator[list[T]]:
    each = iter(lines)
    while chunk := list(islice(each, size)):
        yield chunk


async def _chunks_at_hand(lines: Iterable[T], size: int) -> AsyncGenerator[list[T], None]:
    """Yield `size` lines at a time; what is on its way to Redis goes on in between."""
    each = iter(lines)
    while chunk := list(islice(each, min(size, BITE))):
        while len(chunk) < size and (more := list(islice(each, min(size - len(chunk), BITE)))):
            chunk += more
            await asyncio.sleep(0)
        yield chunk


def _good(chunk: Iterable[Line | Rejected]) -> list[Line]:
    """Return the lines up to the first rejected one."""
    good = []
    for line in chunk:
        if isinstance(line, Rejected):
            break
        good.append(line)
    return good


def _count(receipts: Iterable[Receipt], taken: Taken) -> int:
    return sum(receipt.taken is taken for receipt in receipts)
