"""Requeueing: ended jobs run again from their stored requests, with a patch if one is given.

Each becomes its job's next run. The row of that run replaces the earlier one and keeps its
attempts. A chunk of rows is in memory at a time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.enqueue.feeder_lock import FeederLock
from nightmill.enqueue.known import note, remind
from nightmill.enqueue.prepare import CHUNK, Ready, Receipt
from nightmill.enqueue.reconcile import reconcile
from nightmill.enqueue.window import Window
from nightmill.errors import InvalidParamsError
from nightmill.maintenance.patched import patched
from nightmill.maintenance.renewed import ended_message_batch, renew
from nightmill.params import Defaults, check
from nightmill.queue import keys, wire
from nightmill.queue.patience import patiently
from nightmill.records.bounds import MAX_RUN
from nightmill.records.job import Job, now_ms
from nightmill.records.message_batch import is_id
from nightmill.records.state import JobState
from nightmill.records.stop_reasons import counted_as, named
from nightmill.records.stored_body import LARGEST, reference_to

if TYPE_CHECKING:
    from nightmill.client.producer import Producer
    from nightmill.queue.batches import Batches
    from nightmill.records.result import Result
    from nightmill.store import ResultStore


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which ended jobs run again: those in one of `statuses`, and with the error or stop reason."""

    statuses: frozenset[JobState] = frozenset({JobState.FAILED})
    error: str | None = None
    """An error type, None for any."""
    stop_reason: str | None = None
    """A stop reason as it is counted, None for any."""

    def has(self, row: Result) -> bool:
        """Tell whether the job of `row` is to run again."""
        if row.status not in self.statuses:
            return False
        if self.error is not None and (row.error is None or row.error.type != self.error):
            return False
        return self.stop_reason in {None, named(row.status, row.stop_reason)}


FAILED: Final = Selection()


class Requeued(msgspec.Struct, frozen=True, kw_only=True):
    """How many of the selected jobs of a batch were enqueued again, and how many were not.

    `without_request` rows have no stored request. `invalid` rows have a request that breaks the
    Messages contract after the patch; `problem` is the error of the first of them, "" for none.
    `batch` is the new Message Batch that they are in, "" when they are in their own batch.
    """

    new: int = 0
    queued_already: int = 0
    without_request: int = 0
    invalid: int = 0
    problem: str = ""
    batch: str = ""

    @property
    def left_out(self) -> int:
        """The number of jobs that stay as they are."""
        return self.without_request + self.invalid


async def requeue(  # noqa: PLR0913 - the batch, its three connections, and two options
    batch: str,
    store: ResultStore,
    producer: Producer,
    batches: Batches,
    *,
    which: Selection = FAILED,
    patch: Mapping[str, object] | None = None,
) -> Requeued:
    """Enqueue the jobs of `batch` that `which` selects as their next runs; "": the single jobs.

    `patch` replaces fields of their requests; a field that is None is removed. A second call
    enqueues no job twice. A cancelled batch is opened again when its cancelled jobs are selected.
    The end of a Message Batch is final: each call makes a new one of the selected requests.
    Raises BatchEndedError for another batch that has ended, BatchBusyError while the batch is
    being fed, and what Redis and the store raise when they are away for longer than PATIENCE_S.
    """
    if (ended := await ended_message_batch(store, batch)) is not None:
        rows = _selected(store, batch, which, CHUNK)
        defaults = producer.defaults if patch else producer.defaults.unexamined()
        made = await renew(ended, rows, store, defaults, patch or {})
        return Requeued(**msgspec.structs.asdict(made))
    done = Requeued()
    async with FeederLock(batches.redis, batch) as lock:
        await patiently(lambda: remind(batches, batch, store))
        if JobState.CANCELLED in which.statuses and (await batches.counts(batch)).ended:
            await batches.reopen(batch)
            await note(store, batch, "fed")
        await patiently(lambda: reconcile(batches, batch, store))
        window = Window(batches, batch, producer.settings.window)
        async for page in _selected(store, batch, which, window.chunk(CHUNK)):
            await window.make_room(len(page))
            current = await _unchanged(store, page)
            done = await _send(producer, lock, current, patch or {}, done)
    return done


async def _selected(
    store: ResultStore, batch: str, which: Selection, size: int
) -> AsyncIterator[list[Result]]:
    """Yield the selected rows, at most `size` at once, in the order of the source.

    A job that ends again meanwhile keeps its place in that order, so it is not read twice.
    """
    rows: list[Result] = []
    async for row in store.stream(
        batch, statuses=which.statuses, ordered=True, stop_reason=which.stop_reason
    ):
        if which.has(row):
            rows.append(row)
        if len(rows) == size:
            yield rows
            rows = []
    if rows:
        yield rows


async def _unchanged(store: ResultStore, rows: list[Result]) -> list[Result]:
    """Return those of `rows` that are still stored; the wait for room may have taken hours."""
    found = await patiently(lambda: store.lookup([row.job_id for row in rows]))
    return [row for row in rows if (now := found.get(row.job_id)) and now.run == row.run]


async def _send(
    producer: Producer,
    lock: FeederLock,
    rows: Iterable[Result],
    patch: Mapping[str, object],
    done: Requeued,
) -> Requeued:
    """Enqueue `rows` and return `done` with their numbers added."""
    at, defaults = now_ms(), producer.defaults if patch else producer.defaults.unexamined()
    jobs, without, problems = [], 0, []
    for row in rows:
        if row.params is None:
            without += 1
            continue
        try:
            jobs.append(next_run(row, row.params, patch, defaults, at))
        except InvalidParamsError as error:
            problems.append(f"{row.custom_id or row.job_id}: {error}")

    async def send() -> list[Receipt]:
        await lock.require()  # each time: Redis may have been away for longer than the lock lives
        return await producer.send(jobs)

    receipts = await patiently(send)
    new = sum(receipt.new for receipt in receipts)
    return Requeued(
        new=done.new + new,
        queued_already=done.queued_already + len(receipts) - new,
        without_request=done.without_request + without,
        invalid=done.invalid + len(problems),
        problem=done.problem or next(iter(problems), ""),
    )


def next_run(
    row: Result,
    params: msgspec.Raw,
    patch: Mapping[str, object],
    defaults: Defaults,
    at: int,
) -> Ready:
    """Encode the next run of a stored job, enqueued `at` (epoch ms).

    Raises InvalidParamsError when the patched request breaks the contract, and when the job has
    had the last run that can be numbered.
    """
    if row.run >= MAX_RUN:
        raise InvalidParamsError("run", f"run {row.run:,} is the last one; enqueue the job anew")
    limits = msgspec.structs.replace(defaults, max_payload_bytes=LARGEST)
    stored = is_id(row.batch or "") and not patch  # its request is in the store all the same
    checked = check(patched(params, patch), limits if stored else defaults, row.api)
    body = checked.body
    if len(body) > defaults.max_payload_bytes:
        body = reference_to(row.batch or "", row.seq or 0, body)
    job = Job(
        params=msgspec.Raw(body),
        custom_id=row.custom_id,
        batch=row.batch,
        seq=row.seq,
        run=row.run + 1,
        anthropic_version=row.api.anthropic_version,
        anthropic_beta=row.api.anthropic_beta,
    )
    return Ready(
        row.job_id,
        keys.queue_of(row.batch, checked.model),
        row.batch or keys.SINGLES,
        wire.encode_job(job, at),
        checked.warnings,
        again=True,
        leaves=row.status,
        leaves_stop=counted_as(row.status, row.stop_reason),
    )
