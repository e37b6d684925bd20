"""The limits of a batch: its share of the fleet, its deadline, its budget. Claims read them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final, Self, TypedDict, Unpack

import msgspec

from nightmill.errors import InvalidLimitError
from nightmill.records.bounds import MAX_DATE_MS, MAX_INT, MIN_DATE_MS

NANO: Final = 1_000_000_000
"""Nano-dollars in a dollar. Redis holds whole nano-dollars, so scripts add them up exactly."""
_LARGEST_WEIGHT: Final = 1000
LARGEST_USD: Final = 1e6
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_TAKEN_OVER: Final = (
    *("weight", "concurrency", "budget_tokens", "budget_usd", "interactive", "tenant", "payer"),
)
"""Fields of a Change that replace those of the same name."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The limits of one batch; None means no limit. In Redis: JSON in its hash field `limits`."""

    weight: int = 1
    """Share of the claims beside other batches, 1 to 1000."""
    concurrency: int | None = None
    """Calls of the batch in flight at once, over the fleet; at least 1."""
    expires_at: int | None = None
    """Deadline, epoch ms by Redis's clock."""
    budget_tokens: int | None = None
    """Input and output tokens for the whole batch, spent ones included; at least 1."""
    budget_usd: float | None = None
    """US dollars for the whole batch, spent ones included; above 0, below 1,000,000."""
    price_in: float | None = None
    """Nano-dollars an input token. Values the first calls, until the mean cost is known."""
    price_out: float | None = None
    """Nano-dollars an output token, used as `price_in` is."""
    interactive: bool = False
    """Whether clients wait for its jobs: claims take them first, within INTERACTIVE_SHARE."""
    tenant: str | None = None
    """Whose it is, where its name does not begin with `TENANT/`: tenants share claims equally."""
    payer: str | None = None
    """The key of the HTTP gateway whose budget pays for its jobs."""

    def __post_init__(self) -> None:
        """Raise InvalidLimitError that names the limit and what it may be."""
        if not 1 <= self.weight <= _LARGEST_WEIGHT:
            raise InvalidLimitError(f"weight: 1 to {_LARGEST_WEIGHT}, not {self.weight}")
        for name in ("concurrency", "budget_tokens"):
            number = getattr(self, name)
            if number is not None and not 1 <= number <= MAX_INT:
                allowed = "1 at least" if number < 1 else f"{MAX_INT} at most"
                raise InvalidLimitError(f"{name}: {allowed}, not {number}")
        if self.expires_at is not None and not MIN_DATE_MS <= self.expires_at <= MAX_DATE_MS:
            raise InvalidLimitError(f"expires: a date up to the year 9999, not {self.expires_at}")
        if self.budget_usd is not None and not 0 < self.budget_usd < LARGEST_USD:
            raise InvalidLimitError(f"budget_usd: dollars, more than 0, not {self.budget_usd}")


class Given(TypedDict, total=False):
    """Keywords of `Batch.limit`, asyncio or not; `expires` counts from now. See Limits."""

    weight: int | None
    concurrency: int | None
    expires: timedelta | None
    budget_usd: float | None
    budget_tokens: int | None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """New limits for a batch; a field that is None leaves its limit as it is. See Limits."""

    weight: int | None = None
    concurrency: int | None = None
    expires_s: float | None = None
    """Deadline in seconds from now; above 0."""
    budget_tokens: int | None = None
    budget_usd: float | None = None
    interactive: bool | None = None
    tenant: str | None = None
    payer: str | None = None

    @classmethod
    def of(cls, **given: Unpack[Given]) -> Self:
        """Return the change that these keywords of `Batch.limit` stand for."""
        expires = given.get("expires")
        return cls(
            weight=given.get("weight"),
            concurrency=given.get("concurrency"),
            expires_s=None if expires is None else expires.total_seconds(),
            budget_tokens=given.get("budget_tokens"),
            budget_usd=given.get("budget_usd"),
        )

    def __bool__(self) -> bool:
        """Whether any limit changes."""
        return self != Change()

    def require(self) -> None:
        """Raise InvalidLimitError for a value out of its range, before anything is changed."""
        Limits(
            weight=1 if self.weight is None else self.weight,
            concurrency=self.concurrency,
            budget_usd=self.budget_usd,
            budget_tokens=self.budget_tokens,
        )

    def over(self, before: Limits, *, now_ms: int, prices: tuple[float, float] | None) -> Limits:
        """Return `before` with the given limits replaced.

        `now_ms` is Redis's clock. `prices` are nano-dollars an input token and an output token; a
        budget in dollars needs them. Raises InvalidLimitError that names the limit.
        """
        new: dict[str, object] = {
            name: value for name in _TAKEN_OVER if (value := getattr(self, name)) is not None
        }
        if self.expires_s is not None:
            if not self.expires_s > 0:
                raise InvalidLimitError(f"expires: a time in the future, not {self.expires_s:g} s")
            if not now_ms + self.expires_s * 1000 <= MAX_DATE_MS:
                raise InvalidLimitError("expires: a time before the year 10000")
            new["expires_at"] = now_ms + int(self.expires_s * 1000)
        if self.budget_usd is not None and prices is not None:
            new["price_in"], new["price_out"] = prices
        return msgspec.structs.replace(before, **new)


def parse_seconds(text: str) -> float:
    """Read "90m", "24h", "1h30m" as seconds. Raises InvalidLimitError."""
    parts = _TIME.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidLimitError(f"expires: a time such as 90m, 24h or 7d, not {text!r}")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)
