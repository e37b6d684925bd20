"""The cost of a call, by the price list inside the package genai-prices: no network."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.errors import InvalidLimitError
from nightmill.records.limits import NANO
from nightmill.records.result import Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelPrice

_PER: Final = 1_000_000
_DAY_S: Final = 86_400
_NOTHING: Final = Usage()
_NAMES: Final = ("input", "output", "cache_read", "cache_write")


class _Rates(msgspec.Struct, frozen=True, kw_only=True):
    """US dollars a million tokens of each kind."""

    input: float = 0.0
    output: float = 0.0
    cache_read: float = 0.0
    cache_write: float = 0.0
    listed: ModelPrice | None = None
    """Set when the price depends on the call's size; the rates above are then not used."""


def cost(model: str | None, usage: Usage, at: datetime | None = None) -> float | None:
    """Return US dollars for `usage` of `model` at list price; None when no price is known.

    `at` is when the call was made, now by default. `model` may be `provider/name`. A usage of zero
    costs 0, whatever the model. A usage that cannot be priced, such as a negative one, has no cost.
    """
    if usage == _NOTHING:
        return 0.0
    day = int(at.timestamp() if at else time.time()) // _DAY_S
    rates = _rates(model, day) if model else None
    if rates is None:
        return None
    try:
        dollars = _dollars(rates, usage)
    except (ValueError, OverflowError):
        return None
    return dollars if 0 <= dollars < math.inf else None


def _dollars(rates: _Rates, usage: Usage) -> float:
    if rates.listed is not None:
        return _by_size(rates.listed, usage)
    total = (
        usage.input_tokens * rates.input
        + usage.output_tokens * rates.output
        + usage.cache_read_input_tokens * rates.cache_read
        + usage.cache_creation_input_tokens * rates.cache_write
    )
    return total / _PER


def token_prices(model: str) -> tuple[float, float]:
    """Return the nano-dollars an input token and an output token of `model` cost.

    Raises InvalidLimitError when no price is known, or the price list is not installed.
    """
    try:
        found = [
            cost(model, usage) for usage in (Usage(input_tokens=_PER), Usage(output_tokens=_PER))
        ]
    except ModuleNotFoundError:
        problem = "budget_usd needs the price list: pip install 'nightmill[store]'"
        raise InvalidLimitError(problem) from None
    price_in, price_out = (price and price * NANO / _PER for price in found)
    if price_in is None or price_out is None:
        problem = f"budget_usd: no price is known for {model}; give a budget in tokens instead"
        raise InvalidLimitError(problem)
    return price_in, price_out


def load() -> None:
    """Read the price list now. It takes 0.3 s, and the first answer would have to wait for it."""
    cost("claude-opus-4-6", Usage(output_tokens=1))


@lru_cache(maxsize=1000)
def _rates(model: str, day: int) -> _Rates | None:
    """Look `model` up once a day. The list's own arithmetic takes 100 us a call: too slow a job."""
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - takes 0.2 s to import

    provider, _, name = model.rpartition("/")
    noon = datetime.fromtimestamp((day + 0.5) * _DAY_S, UTC)
    try:
        _, found = get_snapshot().find_provider_model(name, None, provider or None, None)
    except LookupError:
        return None
    price = found.get_prices(noon)
    if price.input_mtok is None or price.output_mtok is None:
        return None
    read = price.input_mtok if price.cache_read_mtok is None else price.cache_read_mtok
    write = price.input_mtok if price.cache_write_mtok is None else price.cache_write_mtok
    rates = (price.input_mtok, price.output_mtok, read, write)
    plain = [float(rate) for rate in rates if isinstance(rate, Decimal)]
    if len(plain) < len(rates):
        return _Rates(listed=price)
    return _Rates(listed=None, **dict(zip(_NAMES, plain, strict=True)))


def _by_size(price: ModelPrice, usage: Usage) -> float:
    from genai_prices import Usage as Tokens  # noqa: PLC0415 - as in _rates

    read, write = usage.cache_read_input_tokens, usage.cache_creation_input_tokens
    tokens = Tokens(
        input_tokens=usage.input_tokens + read + write,
        output_tokens=usage.output_tokens,
        cache_read_tokens=read,
        cache_write_tokens=write,
    )
    return float(price.calc_price(tokens)["total_price"])
