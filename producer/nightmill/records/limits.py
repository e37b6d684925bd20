"""What a batch is held to: its share of the fleet, its deadline, its budget. Claims read it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final, Self, TypedDict, Unpack

import msgspec

from nightmill.errors import InvalidLimitError

NANO: Final = 1_000_000_000
"""Money in Redis is whole nano-dollars: a script adds them up without losing any."""
_LARGEST_WEIGHT: Final = 1000
_LARGEST_USD: Final = 1e6


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The limits of one batch; None is none. In Redis: the JSON of its field `limits`.

    `weight` is its share of the claims beside other batches (1 to 1000), `concurrency` how many of
    its calls may be in flight over the fleet, `expires_at` its deadline (epoch ms of Redis).
    `budget_tokens` (input and output) and `budget_usd` are for the whole batch, what it has spent
    included; `price_in` and `price_out` (nano-dollars a token) value the first calls, until the
    batch's own show what one costs.
    """

    weight: int = 1
    concurrency: int | None = None
    expires_at: int | None = None
    budget_tokens: int | None = None
    budget_usd: float | None = None
    price_in: float | None = None
    price_out: float | None = None

    def __post_init__(self) -> None:
        """Raise InvalidLimitError that names the limit and what it may be."""
        if not 1 <= self.weight <= _LARGEST_WEIGHT:
            raise InvalidLimitError(f"weight: 1 to {_LARGEST_WEIGHT}, not {self.weight}")
        for name in ("concurrency", "budget_tokens"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise InvalidLimitError(f"{name}: 1 at least, not {number}")
        if self.budget_usd is not None and not 0 < self.budget_usd < _LARGEST_USD:
            raise InvalidLimitError(f"budget_usd: dollars, more than 0, not {self.budget_usd}")


class Given(TypedDict, total=False):
    """Limits as keywords of `Batch.limit` and its twin without asyncio; `expires` is from now."""

    weight: int | None
    concurrency: int | None
    expires: timedelta | None
    budget_usd: float | None
    budget_tokens: int | None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """New limits for a batch; what is None stays as it is. `expires_s` is in seconds from now."""

    weight: int | None = None
    concurrency: int | None = None
    expires_s: float | None = None
    budget_tokens: int | None = None
    budget_usd: float | None = None

    @classmethod
    def of(cls, **given: Unpack[Given]) -> Self:
        """Return the change that keywords ask for."""
        expires = given.get("expires")
        return cls(
            weight=given.get("weight"),
            concurrency=given.get("concurrency"),
            expires_s=None if expires is None else expires.total_seconds(),
            budget_tokens=given.get("budget_tokens"),
            budget_usd=given.get("budget_usd"),
        )

    def __bool__(self) -> bool:
        """Whether anything is to change."""
        return self != Change()

    def over(self, before: Limits, *, now_ms: int, prices: tuple[float, float] | None) -> Limits:
        """Return `before` with the given limits replaced.

        `now_ms` is Redis's clock. `prices` are nano-dollars for a token in and a token out; a
        budget in dollars needs them. Raises InvalidLimitError that names the limit.
        """
        new: dict[str, object] = {
            name: value
            for name in ("weight", "concurrency", "budget_tokens", "budget_usd")
            if (value := getattr(self, name)) is not None
        }
        if self.expires_s is not None:
            if not self.expires_s > 0:
                raise InvalidLimitError(f"expires: a time to come, not {self.expires_s:g} s")
            new["expires_at"] = now_ms + int(self.expires_s * 1000)
        if self.budget_usd is not None and prices is not None:
            new["price_in"], new["price_out"] = prices
        return msgspec.structs.replace(before, **new)
