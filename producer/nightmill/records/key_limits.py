"""What a key of the HTTP gateway may use: betas, requests, dollars. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final, Literal, get_args

import msgspec

from nightmill.errors import InvalidLimitError
from nightmill.records.api import A_BETA, MOST_BETAS, is_beta
from nightmill.records.limits import LARGEST_USD, NANO

Period = Literal["hour", "day", "month"]
NONE: Final = "none"
"""What a person writes to have no limit, or no beta."""
MOST: Final = 1_000_000_000
"""Largest number of requests in a limit."""
_AMOUNT: Final = re.compile(r"\$?([0-9]{1,7}(?:\.[0-9]{1,9})?)/([a-z]+)", re.ASCII)
_A_BUDGET: Final = (
    f"dollars/period, more than 0 and below {LARGEST_USD:,.0f}, the period hour, day or month, "
    "as 50/day"
)


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What the jobs of a key may cost in each hour, day or month of UTC."""

    nanodollars: int
    period: Period

    def __str__(self) -> str:
        """Return it as a person writes it."""
        return f"{usd(self.nanodollars)}/{self.period}"

    def starts(self, now_ms: int) -> int:
        """Return when the period began that holds at `now_ms`, epoch ms."""
        return int(self._start(now_ms).timestamp()) * 1000

    def ends(self, now_ms: int) -> int:
        """Return when that period ends, epoch ms."""
        start = self._start(now_ms)
        if self.period == "month":
            later = (start + timedelta(days=31)).replace(day=1)
        else:
            later = start + timedelta(**{f"{self.period}s": 1})
        return int(later.timestamp()) * 1000

    def _start(self, now_ms: int) -> datetime:
        now = datetime.fromtimestamp(now_ms // 1000, UTC).replace(minute=0, second=0)
        if self.period == "hour":
            return now
        return now.replace(hour=0) if self.period == "day" else now.replace(hour=0, day=1)


class KeyLimits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The limits of one key; None: no limit. In the store: JSON."""

    betas: tuple[str, ...] | None = None
    """The anthropic-beta values that it may send."""
    rpm: int | None = None
    """Its requests a minute, over all gateways."""
    concurrency: int | None = None
    """Its requests at one time, over all gateways."""
    budget: Budget | None = None

    @property
    def counted(self) -> bool:
        """Whether Redis counts what the key uses."""
        return any(each is not None for each in (self.rpm, self.concurrency, self.budget))


NO_LIMITS: Final = KeyLimits()


def read_betas(text: str) -> tuple[str, ...]:
    """Read "a,b" or "none". Raises InvalidLimitError."""
    names = [] if text.strip() == NONE else [name.strip() for name in text.split(",")]
    if not all(map(is_beta, names)) or len(names) > MOST_BETAS:
        allowed = f"up to {MOST_BETAS} names with commas ({A_BETA}), or {NONE}"
        raise InvalidLimitError(f"betas: given {text!r:.80}; allowed: {allowed}")
    return tuple(dict.fromkeys(names))


def read_number(name: str, text: str) -> int:
    """Read a number of requests. Raises InvalidLimitError that names the limit."""
    if not re.fullmatch(r"[0-9]{1,10}", text, re.ASCII) or not 1 <= int(text) <= MOST:
        raise InvalidLimitError(
            f"{name}: given {text!r:.80}; allowed: a whole number, 1 to {MOST:,}"
        )
    return int(text)


def read_budget(text: str) -> Budget:
    """Read "50/day". Raises InvalidLimitError."""
    found = _AMOUNT.fullmatch(text)
    amount = Decimal(found[1]) if found else Decimal(0)
    if found is None or found[2] not in get_args(Period) or not 0 < amount < int(LARGEST_USD):
        raise InvalidLimitError(f"budget-usd: given {text!r:.80}; allowed: {_A_BUDGET}")
    return Budget(nanodollars=int(amount * NANO), period=found[2])  # type: ignore[arg-type]


def usd(nanodollars: int) -> str:
    """Return an amount exactly, with two decimals at least: $50.00, $0.0015."""
    text = f"{Decimal(nanodollars) / NANO:.9f}"
    whole, _, rest = text.partition(".")
    return f"${int(whole):,}.{rest.rstrip('0'):0<2}"
