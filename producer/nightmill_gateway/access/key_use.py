"""What keys use of their limits, over all gateways: Redis has it."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from nightmill.errors import NightmillError
from nightmill.queue import keys, wire
from nightmill.queue.connection import redis_errors
from nightmill_gateway.answers.errors import ApiError
from nightmill_gateway.loops import looping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from aiohttp import web
    from redis.asyncio import Redis

    from nightmill.records.key_limits import KeyLimits
    from nightmill_gateway.access.caller import Caller

RENEW_S: Final = keys.OPEN_TTL_MS / 4000
"""Between two renewals of the requests that are not answered yet, seconds."""
LONGEST_S: Final = 60
"""Largest `retry-after`: the official SDKs do not wait longer, seconds."""
_A_MINUTE: Final = 1
_LIMIT: Final = "anthropic-ratelimit-requests"


class KeyUse:
    """The requests of this process that keys with limits have sent."""

    def __init__(self, redis: Redis) -> None:
        """Use a connection that is open while it runs."""
        self._redis = redis
        self._admit = redis.register_script(wire.script("admit"))
        self._leave = redis.register_script(wire.script("leave"))
        self._open: dict[str, str] = {}

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """Renew for the life of an application."""
        async with looping("limits of keys", self._renew):
            yield

    @asynccontextmanager
    async def request(self, caller: Caller, request_id: str) -> AsyncIterator[Mapping[str, str]]:
        """Let a request in for the length of the block; yield the headers of its answer.

        Raises ApiError when its key has a limit that allows no further one.
        """
        limits = caller.limits
        if not caller.key_id or (limits.rpm is None and limits.concurrency is None):
            yield {}
            return
        headers = await self._let_in(caller.key_id, limits, request_id)
        began = time.monotonic()
        self._open[request_id] = caller.key_id
        try:
            yield headers
        finally:
            del self._open[request_id]
            if limits.concurrency is not None:
                lasted_ms = int((time.monotonic() - began) * 1000)
                await asyncio.shield(self._left(caller.key_id, request_id, lasted_ms))

    async def _let_in(self, key_id: str, limits: KeyLimits, request_id: str) -> dict[str, str]:
        rpm, concurrency = limits.rpm, limits.concurrency
        args = [key_id, request_id, rpm or "", concurrency or ""]
        with redis_errors():
            over, left, full_ms, wait_ms = await self._admit(args=args)
        headers = {}
        if rpm is not None and over in (0, _A_MINUTE):
            full = datetime.now(UTC) + timedelta(milliseconds=full_ms)
            headers = {
                f"{_LIMIT}-limit": str(rpm),
                f"{_LIMIT}-remaining": str(left),
                f"{_LIMIT}-reset": full.strftime("%Y-%m-%dT%H:%M:%SZ"),
            }
        if not over:
            return headers
        headers["retry-after"] = str(min(LONGEST_S, max(1, math.ceil(wait_ms / 1000))))
        limit = (
            f"rpm: {rpm:,} requests a minute"
            if over == _A_MINUTE
            else (f"concurrency: {concurrency:,} requests at one time")
        )
        raise ApiError(
            429,
            f"the key {key_id} is over its limit, {limit}; wait as retry-after says, or "
            f"raise it: nightmill keys adjust {key_id}",
            headers,
        )

    async def _left(self, key_id: str, request_id: str, lasted_ms: int) -> None:
        with suppress(NightmillError), redis_errors():  # what stays there ends with its lease
            await self._leave(args=[key_id, request_id, lasted_ms])

    async def _renew(self) -> float:
        """Renew the requests that are not answered yet; return when the next renewal is due."""
        if not self._open:
            return RENEW_S
        of: dict[str, list[str]] = {}
        for request_id, key_id in self._open.items():
            of.setdefault(key_id, []).append(request_id)
        with redis_errors():
            seconds, _ = await self._redis.execute_command("TIME")
            ends = int(seconds) * 1000 + keys.OPEN_TTL_MS
            async with self._redis.pipeline(transaction=False) as pipe:
                for key_id, ids in of.items():
                    name = f"{keys.REQUESTS}{key_id}:open"
                    pipe.zadd(name, dict.fromkeys(ids, ends), xx=True)
                    pipe.pexpire(name, keys.OPEN_TTL_MS)
                await pipe.execute()
        return RENEW_S
