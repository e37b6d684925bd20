"""Cancellation: the queued jobs of a cancelled or expired batch become rows, without a call.

Cancelling sets one flag and takes effect at once; this is what is written behind it, by a worker
or by `nightmill cancel`. Rows are committed first, so a crash in between repeats no more than that.
"""

from __future__ import annotations

import uuid
from importlib.resources import files
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.errors import PayloadError
from nightmill.queue import keys, wire
from nightmill.queue.connection import redis_errors
from nightmill.queue.result_keys import kept
from nightmill.records.job import Job, now_ms, request_hash
from nightmill.records.result import Result, story
from nightmill.records.state import JobState

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nightmill.settings import Settings
    from nightmill.store import ResultStore

PART: Final = 500
"""Jobs taken out in one script call, and committed in one transaction."""


class Cancellation:
    """Takes jobs of ended batches out of one Redis and into one store."""

    def __init__(self, redis: Redis, store: ResultStore, settings: Settings) -> None:
        """Use connections that the caller closes."""
        self._redis = redis
        self._store = store
        self._settings = settings
        self._me = uuid.uuid4().hex
        self._script = redis.register_script(_source())

    async def run(self, batch: str) -> int:
        """Write the rows of all queued jobs of `batch`, if it has ended; return how many.

        Jobs in flight are left alone. Raises QueueUnavailableError and what the store raises; it
        can be run again at any time, and beside another process that does the same.
        """
        with redis_errors():
            queues = await self._redis.execute_command("SMEMBERS", keys.QUEUES_OF + batch)
        return sum([await self._empty(queue.decode(), batch) for queue in sorted(queues)])

    async def _empty(self, queue: str, batch: str) -> int:
        written, rank, done = 0, 0, list[str | bytes]()
        while True:
            args = [queue, batch, self._me, rank, PART, *done]
            with redis_errors():
                flag, busy, *found = await self._script(args=args)
            if not found and not busy:
                return written
            status = JobState(flag.decode()) if found else None
            rows = [self._row(job, queue, batch, status) for job in found if status]
            await self._store.record(rows)
            written += len(rows)
            done = []
            for (job_id, *_), row in zip(found, rows, strict=True):
                done += (job_id, kept(row, queue))
            rank += busy  # those stay where they are, and these ranks are filled by the next

    def _row(
        self, told: tuple[bytes, bytes, bytes, bytes], queue: str, batch: str, status: JobState
    ) -> Result:
        job_id, payload, past, cut = told
        settings = self._settings
        try:
            job, enqueued_at = wire.decode_job(payload)
        except PayloadError:  # evicted, or never a job: it is withdrawn all the same
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
            request_hash=request_hash(body, rehearsal=settings.rehearsal) if body else None,
            enqueued_at=enqueued_at,
            finished_at=now_ms(),
            cost=0.0,
            **story(past, cut),
        )


def _source() -> str:
    return (
        wire.lua_prelude() + files("nightmill.queue").joinpath("lua/cancellation.lua").read_text()
    )
