"""Jobs whose clients left before they had the answer: a retry of the request takes them over."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from nightmill.queue import keys
from nightmill.queue.connection import redis_errors

if TYPE_CHECKING:
    from redis.asyncio import Redis


class Unread:
    """The jobs of one request: each is taken over once."""

    def __init__(self, redis: Redis, batch: str, body: bytes) -> None:
        """Take the tenant's batch and the body of the request."""
        self._redis = redis
        digest = hashlib.blake2b(f"{batch}\n".encode() + body, digest_size=16).hexdigest()
        self._key = keys.UNREAD + digest

    async def put(self, job_id: str) -> None:
        """Keep a job for a retry. Raises QueueUnavailableError."""
        with redis_errors():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.rpush(self._key, job_id)
                pipe.pexpire(self._key, keys.UNREAD_TTL_MS)
                await pipe.execute()

    async def take(self) -> str | None:
        """Return the job that was kept first, which nobody else gets; None: there is none."""
        with redis_errors():
            found: bytes | None = await self._redis.execute_command("LPOP", self._key)
        return None if found is None else found.decode()
