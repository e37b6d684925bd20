"""Whether new jobs are taken: MAX_QUEUED, and the budget of their key."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from aiohttp import web

from nightmill.errors import InvalidLimitError
from nightmill.export.lines import rfc3339
from nightmill.pricing.cost import Prices
from nightmill.queue import keys, wire
from nightmill.queue.budgets import store_budget
from nightmill.queue.connection import redis_errors
from nightmill.records.key_limits import usd
from nightmill_gateway.answers.errors import OVERLOADED, ApiError

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nightmill.queue.budgets import Spent
    from nightmill.records.key_limits import Budget
    from nightmill.settings import Settings
    from nightmill_gateway.access.caller import Caller

AGAIN_S: Final = 30
"""`retry-after` of what is refused, seconds."""


class QueueRoom:
    """Counts the jobs in the queue before new ones are taken."""

    def __init__(self, redis: Redis, settings: Settings) -> None:
        """Take an open connection, and the settings MAX_QUEUED, PRICES and MODEL."""
        self._redis = redis
        self._settings = settings
        self._count = redis.register_script(wire.script("queued"))
        self._most = settings.max_queued

    async def has(self, job_id: str) -> bool:
        """Tell whether a job is in the queue: sent again, it needs no further room."""
        with redis_errors():
            return bool(await self._redis.exists(keys.PAYLOAD + job_id))

    async def require(self, caller: Caller) -> None:
        """Raise ApiError when the queue takes no new job of this caller now."""
        if caller.limits.budget is not None:
            await self._require_budget(caller.key_id, caller.limits.budget)
        with redis_errors():
            found = int(await self._count())
        if found >= self._most:
            text = (
                f"the queue has {found:,} jobs, MAX_QUEUED is {self._most:,}: try again "
                "later; nothing of this request was accepted"
            )
            raise ApiError(OVERLOADED, text, {"retry-after": str(AGAIN_S)})

    async def _require_budget(self, key_id: str, budget: Budget) -> None:
        """Store the budget for the claims, and raise ApiError when it is spent."""
        found = await store_budget(self._redis, key_id, budget, self._prices())
        if error := self.spent_error(key_id, budget, found):
            raise error

    def spent_error(self, key_id: str, budget: Budget, found: Spent) -> ApiError | None:
        """Return the error of a key whose budget is spent; None while it takes calls."""
        now, spent, over, unpriced = found
        if spent < budget.nanodollars and not over:
            return None
        why = f"{usd(spent)} of {budget} is spent"
        if unpriced:
            why = "it has an answer of a model without a known price, which PRICES can give"
        elif spent < budget.nanodollars:
            why += ", and the next call may cost more than is left"
        return ApiError(
            402,
            f"the budget of the key {key_id}: {why}; no new requests until "
            f"{rfc3339(budget.ends(now))}. Raise it: nightmill keys adjust {key_id} --budget-usd "
            f"AMOUNT/{budget.period}",
        )

    @cache  # noqa: B019 - one for the life of the process
    def _prices(self) -> tuple[float, float]:
        """Return what the first calls of a key may cost a token; later ones cost as those did."""
        try:
            return Prices(self._settings.prices).token_prices(self._settings.model)
        except InvalidLimitError:
            return 0.0, 0.0


ROOM: Final = web.AppKey("room", QueueRoom)
"""The key in an application of its QueueRoom."""
