"""A job that Redis has: its payload, its record, its calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from nightmill.queue import keys
from nightmill.queue.connection import redis_errors
from nightmill.records.counts import text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis


class QueuedJob(NamedTuple):
    """What Redis has of one job, read at one moment."""

    payload: bytes
    record: Mapping[bytes, bytes]
    attempts: Sequence[bytes]

    @property
    def state(self) -> str:
        """The state of a job that has not ended."""
        return text(self.record.get(b"state", b"queued"))


async def read_queued(redis: Redis, job_id: str) -> QueuedJob | None:
    """Return a job, None when Redis does not know it. Raises QueueUnavailableError.

    Look here before the store: a job that ends has its row before it leaves Redis.
    """
    with redis_errors():
        async with redis.pipeline(transaction=True) as pipe:
            pipe.get(keys.PAYLOAD + job_id)
            pipe.hgetall(keys.RECORD + job_id)
            pipe.lrange(keys.ATTEMPTS + job_id, 0, -1)
            payload, record, attempts = await pipe.execute()
    return None if payload is None else QueuedJob(payload, record, attempts)
