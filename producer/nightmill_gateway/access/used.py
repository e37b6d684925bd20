"""What a key has used of its limits, as Redis has it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from nightmill.queue import keys
from nightmill.queue.connection import redis_errors
from nightmill.records.counts import text

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nightmill.records.key_limits import KeyLimits


class Used(NamedTuple):
    """What a key uses now."""

    a_minute: int
    """Its requests that count against those a minute."""
    at_once: int
    """Its requests that are not answered yet."""
    nanodollars: int
    """What its jobs have cost in the period of its budget."""


async def read_used(redis: Redis, key_id: str, limits: KeyLimits) -> Used:
    """Return what a key uses. Raises QueueUnavailableError."""
    name = keys.REQUESTS + key_id
    with redis_errors():
        async with redis.pipeline(transaction=True) as pipe:
            pipe.execute_command("TIME")
            pipe.hmget(name, ["level", "at"])
            pipe.zrange(f"{name}:open", 0, -1, withscores=True)
            pipe.hmget(keys.BUDGET + key_id, ["start", "spent"])
            (seconds, _), bucket, open_, budget = await pipe.execute()
    now = int(seconds) * 1000
    return Used(
        a_minute=_a_minute(bucket, limits.rpm, now),
        at_once=sum(ends > now for _, ends in open_),
        nanodollars=_spent(budget, limits, now),
    )


def _a_minute(bucket: list[bytes | None], rpm: int | None, now: int) -> int:
    if rpm is None or bucket[0] is None:
        return 0
    level = _number(bucket[0]) + rpm * max(0.0, now - _number(bucket[1])) / 60_000
    return max(0, rpm - math.floor(level))


def _spent(budget: list[bytes | None], limits: KeyLimits, now: int) -> int:
    if limits.budget is None or _number(budget[0]) != limits.budget.starts(now):
        return 0
    return int(_number(budget[1]))


def _number(stored: bytes | None) -> float:
    try:
        found = float(text(stored or b"0"))
    except ValueError:
        return 0.0
    return found if math.isfinite(found) else 0.0
