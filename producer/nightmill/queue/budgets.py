"""The budgets of keys of the HTTP gateway, as claims read them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from nightmill.queue import keys
from nightmill.queue.connection import redis_errors
from nightmill.records.counts import text

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nightmill.records.key_limits import Budget


_FIELDS: Final = ["budget", "start", "spent", "over", "unpriced"]


class Spent(NamedTuple):
    """What is spent of a budget."""

    now_ms: int
    """By Redis's clock."""
    nanodollars: int
    """In this period."""
    over: bool
    """Whether a claim found that the next call does not fit."""
    unpriced: int
    """Answers of this period without a known price."""


async def store_budget(
    redis: Redis, key_id: str, budget: Budget, prices: tuple[float, float]
) -> Spent:
    """Store the budget of a key; return what is spent of it.

    `prices` are nano-dollars an input token and an output token, for the first calls. Raises
    QueueUnavailableError.
    """
    name = keys.BUDGET + key_id
    stored = {
        "budget": str(budget.nanodollars),
        "period": budget.period,
        "price_in": repr(prices[0]),
        "price_out": repr(prices[1]),
    }
    with redis_errors():
        async with redis.pipeline(transaction=True) as pipe:
            pipe.execute_command("TIME")
            pipe.hmget(name, _FIELDS)
            pipe.hset(name, mapping=stored)
            (seconds, _), found, _ = await pipe.execute()
        if _number(found[3]) and _number(found[0]) != budget.nanodollars:
            await redis.execute_command("HDEL", name, "over")
            found[3] = None
    return _spent(int(seconds) * 1000, found, budget)


async def read_spent(redis: Redis, key_id: str, budget: Budget) -> Spent:
    """Return what is spent of the budget of a key, as claims see it now.

    They see no budget when Redis has lost it, and another one when it was changed: then it is not
    over. Raises QueueUnavailableError.
    """
    with redis_errors():
        async with redis.pipeline(transaction=True) as pipe:
            pipe.execute_command("TIME")
            pipe.hmget(keys.BUDGET + key_id, _FIELDS)
            (seconds, _), found = await pipe.execute()
    same = _number(found[0]) == budget.nanodollars
    return _spent(int(seconds) * 1000, found if same else [None] * len(_FIELDS), budget)


def _spent(now: int, found: list[bytes | None], budget: Budget) -> Spent:
    _, start, spent, over, unpriced = (_number(each) for each in found)
    begun = budget.starts(now)
    same = start == begun
    return Spent(now, spent if same else 0, over == begun, unpriced if same else 0)


async def forget_budget(redis: Redis, key_id: str) -> None:
    """Let the jobs of a key cost anything. Raises QueueUnavailableError."""
    with redis_errors():
        await redis.execute_command("DEL", keys.BUDGET + key_id)


def _number(stored: bytes | None) -> int:
    shown = text(stored or b"0")
    return int(shown) if shown.isascii() and shown.isdecimal() and len(shown) < 19 else 0  # noqa: PLR2004 - 64 bits
