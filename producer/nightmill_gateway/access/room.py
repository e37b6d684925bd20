"""Whether the queue takes new jobs: MAX_QUEUED."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from nightmill.queue import wire
from nightmill.queue.connection import redis_errors
from nightmill_gateway.answers.errors import OVERLOADED, ApiError

if TYPE_CHECKING:
    from redis.asyncio import Redis

AGAIN_S: Final = 30
"""`retry-after` of what is refused, seconds."""


class QueueRoom:
    """Counts the jobs in the queue before new ones are taken."""

    def __init__(self, redis: Redis, most: int) -> None:
        """Take an open connection, and the number of jobs at which no more are taken."""
        self._count = redis.register_script(wire.script("queued"))
        self._most = most

    async def require(self) -> None:
        """Raise ApiError when the queue takes no new job now."""
        with redis_errors():
            found = int(await self._count())
        if found >= self._most:
            text = (
                f"the queue has {found:,} jobs, MAX_QUEUED is {self._most:,}: try again "
                "later; nothing of this request was accepted"
            )
            raise ApiError(OVERLOADED, text, {"retry-after": str(AGAIN_S)})


ROOM: Final = web.AppKey("room", QueueRoom)
"""The key in an application of its QueueRoom."""
