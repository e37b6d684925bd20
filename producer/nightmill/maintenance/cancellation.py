"""Cancellation: each queued job of a cancelled or expired batch gets a row, without a call.

A batch is cancelled by a flag in Redis, at once. The rows are written later, by a worker or by
`nightmill cancel`. A row is committed before its job leaves Redis, so a crash in between only
repeats this work.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.enqueue.known import note
from nightmill.errors import PayloadError
from nightmill.queue import keys, wire
from nightmill.queue.connection import redis_errors
from nightmill.queue.result_keys import kept
from nightmill.records.billed import billed
from nightmill.records.job import Job, is_rehearsal, now_ms, request_hash
from nightmill.records.result import Bill, History, Result, history_of
from nightmill.records.state import JobState
from nightmill.records.stored_body import stored_body

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nightmill.settings import Settings
    from nightmill.store import ResultStore
    from nightmill.store.batches import FedState

PART: Final = 500
"""Jobs that one script call reads and removes, and that one transaction commits."""
_NO_HISTORY: Final = history_of(b"[]", b"")


class Cancellation:
    """Moves the queued jobs of ended batches from one Redis to rows in one store."""

    def __init__(self, redis: Redis, store: ResultStore, settings: Settings) -> None:
        """Use connections that the caller closes."""
        self._redis = redis
        self._store = store
        self._settings = settings
        self._me = uuid.uuid4().hex
        self._script = redis.register_script(wire.script("cancellation"))

    async def run(self, batch: str) -> int:
        """Write the rows of all queued jobs of `batch`, if it has ended; return how many.

        Jobs in flight are left alone. It can be repeated at any time, and several processes may
        run it at once. Raises QueueUnavailableError and what the store raises.
        """
        with redis_errors():
            queues = await self._redis.execute_command("SMEMBERS", keys.QUEUES_OF + batch)
        return sum([await self._empty(queue, batch) for queue in sorted(queues)])

    async def _empty(self, queue: bytes, batch: str) -> int:
        written, rank, done = 0, 0, list[str | bytes]()
        while True:
            args = [queue, batch, self._me, rank, PART, *done]
            with redis_errors():
                flag, in_flight, *found = await self._script(args=args)
            if not found and not in_flight:
                return written
            status = JobState(flag.decode()) if found else None
            if found and not written:
                state: FedState = "expired" if status is JobState.EXPIRED else "cancelled"
                await note(self._store, batch, state)  # Redis may lose the flag
            name = queue.decode(errors="replace")
            rows = [self._row(job, name, batch, status) for job in found if status]
            rows = await self._billed(rows)
            await self._store.record_all(rows)
            written += len(rows)
            done = []
            for (job_id, *_), row in zip(found, await self._as_stored(rows), strict=True):
                done += (job_id, row.status, kept(row, name))
            rank += in_flight  # they stay in the queue; the removed ones make room for the next

    async def _billed(self, rows: list[Result]) -> list[Result]:
        """Return rows with what their jobs have used: those that end between two calls."""
        turns = await self._store.turns([row.job_id for row in rows])
        return [
            billed(msgspec.structs.replace(row, cost_parts=Bill()), mine)
            if (mine := [each for each in turns.get(row.job_id, ()) if each.run == row.run])
            else row
            for row in rows
        ]

    async def _as_stored(self, rows: list[Result]) -> list[Result]:
        """Return the rows that the store has under the ids of `rows`.

        A worker that died may have committed the row of a job before: that row stays.
        """
        found = await self._store.lookup([row.job_id for row in rows])
        return [
            row
            if (stored := found.get(row.job_id)) is None or stored.status is row.status
            else await self._store.get(row.job_id) or row
            for row in rows
        ]

    def _row(
        self, found: tuple[bytes, bytes, bytes, bytes], queue: str, batch: str, status: JobState
    ) -> Result:
        job_id, payload, past, cut = found
        settings = self._settings
        try:
            job, enqueued_at = wire.decode_job(payload)
        except PayloadError:  # it was evicted, or it is no job: it gets a row all the same
            job, enqueued_at = Job(params=msgspec.Raw(b"")), now_ms()
        body = bytes(job.params)
        name = job_id.decode(errors="replace")
        return Result(
            job_id=name,
            status=status,
            run=job.run,
            batch=batch,
            custom_id=job.custom_id or name.removeprefix(f"{batch}:"),
            seq=job.seq,
            model=queue.removeprefix(keys.batch_queue(batch, "")),
            params=msgspec.Raw(body) if body and settings.keep_params else None,
            api=job.api,
            request_hash=request_hash(body, job.api, rehearsal=is_rehearsal(batch))
            if body and stored_body(body, batch) is None
            else None,
            enqueued_at=enqueued_at,
            finished_at=now_ms(),
            cost=0.0,
            **_history(past, cut),
        )


def _history(past: bytes, cut: bytes) -> History:
    """Return the history of the job's calls; one that cannot be read counts as none."""
    try:
        return history_of(past, cut)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _NO_HISTORY
