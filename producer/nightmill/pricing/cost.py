"""The bill of a call: list prices of genai-prices, the rules that change them, own prices.

Nothing here uses the network. `rules` has the public rules, `setting_tables` reads own prices.
"""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.errors import InvalidLimitError
from nightmill.pricing.rules import READ, SEARCH, WRITE_1H, WRITE_5M, factor
from nightmill.records.limits import NANO
from nightmill.records.result import Bill, Usage
from nightmill.setting_tables import TOKEN_PRICES, OwnPrice, read_prices

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genai_prices.types import ModelPrice, TieredPrices

_PER: Final = 1_000_000
_DAY_S: Final = 86_400
_NOTHING: Final = Usage()
_FREE: Final = Bill()


class _Rates(msgspec.Struct, frozen=True, kw_only=True):
    """US dollars a token of each kind, and a web search."""

    above: int = 0
    """Tokens of a prompt; these rates are those of a call with more."""
    input: float
    output: float
    cache_read: float
    cache_write_5m: float
    cache_write_1h: float
    web_search: float


class Prices:
    """The prices of one process: the operator's own ones (PRICES), else those of the list."""

    def __init__(self, file: str | None = None) -> None:
        """Read the price file, which the settings have checked."""
        self._own = read_prices(file) if file else {}
        self._rates = lru_cache(maxsize=1000)(self._find)

    def cost(
        self, model: str | None, usage: Usage, at: datetime | None = None, asked: str | None = None
    ) -> float | None:
        """Return US dollars as `bill` does."""
        found = self.bill(model, usage, at, asked)
        return None if found is None else found.total

    def bill(
        self, model: str | None, usage: Usage, at: datetime | None = None, asked: str | None = None
    ) -> Bill | None:
        """Return what one call of `model` cost; None when no price is known.

        `model` is the one that answered, and `asked` that of the request, which a gateway may map
        to another. Own prices of either come first, those of `model` before those of `asked`.
        `at` is when the call was made, now by default. `model` may be `provider/name`. A usage of
        zero costs 0, whatever the model. One that cannot be priced, such as a negative one, has no
        cost. The bills of several calls are added up: a long prompt may change a call's rates.
        """
        if usage == _NOTHING:
            return _FREE
        day = int(at.timestamp() if at else time.time()) // _DAY_S
        other = None if asked == model else asked
        rates = self._rates(model or "", other, day, usage.billed_as)
        if not rates:
            return None
        try:
            found = _bill(rates, usage)
        except (ValueError, OverflowError):
            return None
        return found if 0 <= found.total < math.inf else None

    def token_prices(self, model: str) -> tuple[float, float]:
        """Return the nano-dollars an input token and an output token of `model` cost.

        Raises InvalidLimitError when no price is known, or the price list is not installed.
        """
        try:
            found = [
                self.cost(model, usage) for usage in (Usage(input_tokens=1), Usage(output_tokens=1))
            ]
        except ModuleNotFoundError:
            problem = "budget_usd needs the price list: pip install 'nightmill[store]'"
            raise InvalidLimitError(problem) from None
        price_in, price_out = (price if price is None else price * NANO for price in found)
        if price_in is None or price_out is None:
            problem = (
                f"budget_usd: no price is known for {model}; name its price in NIGHTMILL_PRICES, "
                "or give a budget in tokens instead"
            )
            raise InvalidLimitError(problem)
        return price_in, price_out

    def load(self) -> None:
        """Read the price list now. It takes 0.3 s, and the first answer would have to wait."""
        self.cost("claude-opus-4-6", Usage(output_tokens=1))

    def _find(self, model: str, asked: str | None, day: int, terms: str) -> tuple[_Rates, ...]:
        """Look models up once a day: the rates of short prompts first. () when none is known.

        The list's own arithmetic takes 100 us a call: too slow for each job.
        """
        names = sorted(filter(None, (model, asked)), key=lambda name: not self._own_price(name))
        found = (self._of_model(name, day, terms) for name in names)
        return next(filter(None, found), ())

    def _of_model(self, model: str, day: int, terms: str) -> tuple[_Rates, ...]:
        own = self._own_price(model)
        name = model.rpartition("/")[2]
        times = factor(name, terms)
        if times is None:
            return ()
        if own is not None and own.input is not None:
            return (_own_rates(own, times),)
        off = Decimal(1) - (Decimal(str(own.discount_percent)) / 100 if own else 0)
        listed = _listed(model, day)
        return () if listed is None else tuple(_listed_rates(listed, times * off))

    def _own_price(self, model: str) -> OwnPrice | None:
        """Return the entry for `model`: the one of its name, else the first whose pattern fits."""
        exact = self._own.get(model)
        fitting = (own for own in self._own.values() if own.fits(model))
        return exact or next(fitting, None)


def _bill(rates: tuple[_Rates, ...], usage: Usage) -> Bill:
    rate, hour = rates[0], usage.cache_creation_1h_input_tokens
    read, write = usage.cache_read_input_tokens, usage.cache_creation_input_tokens
    if len(rates) > 1:
        prompt = usage.input_tokens + read + write
        rate = next(each for each in reversed(rates) if prompt > each.above or not each.above)
    if not (read or write or usage.web_search_requests):
        return Bill(input=usage.input_tokens * rate.input, output=usage.output_tokens * rate.output)
    return Bill(
        input=usage.input_tokens * rate.input,
        output=usage.output_tokens * rate.output,
        cache_read=read * rate.cache_read,
        cache_write_5m=(write - hour) * rate.cache_write_5m,
        cache_write_1h=hour * rate.cache_write_1h,
        web_search=usage.web_search_requests * rate.web_search,
    )


def _listed(model: str, day: int) -> ModelPrice | None:
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - takes 0.2 s to import

    provider, _, name = model.rpartition("/")
    noon = datetime.fromtimestamp((day + 0.5) * _DAY_S, UTC)
    try:
        _, found = get_snapshot().find_provider_model(name, None, provider or None, None)
    except LookupError:
        return None
    price = found.get_prices(noon)
    return None if price.input_mtok is None or price.output_mtok is None else price


def _listed_rates(price: ModelPrice, times: Decimal) -> Iterator[_Rates]:
    """Yield the rates of a model for short prompts, then those above each threshold."""
    kinds = {
        "input": price.input_mtok,
        "output": price.output_mtok,
        "cache_read": price.cache_read_mtok,
        "cache_write_5m": price.cache_write_mtok,
        "cache_write_1h": price.cache_write_1h_mtok,
    }
    starts = {tier.start for kind in kinds.values() for tier in getattr(kind, "tiers", ())}
    for above in sorted({0, *starts}):
        at = {name: _at(kind, above) for name, kind in kinds.items()}
        search = price.web_searches_kcount
        base = at["input"]
        full = {name: base if price is None else price for name, price in at.items()}
        yield _rates_of(full, search if isinstance(search, Decimal) else SEARCH, times, above)


def _at(kind: Decimal | TieredPrices | None, above: int) -> Decimal | None:
    """Return the price of one kind of token for prompts above a threshold."""
    if kind is None or isinstance(kind, Decimal):
        return kind
    return next((tier.price for tier in reversed(kind.tiers) if tier.start <= above), kind.base)


def _own_rates(own: OwnPrice, times: Decimal) -> _Rates:
    given = {name: getattr(own, name) for name in TOKEN_PRICES}
    at = {name: None if each is None else Decimal(str(each)) for name, each in given.items()}
    base = at["input"] or Decimal(0)
    implied = {"cache_read": READ, "cache_write_5m": WRITE_5M, "cache_write_1h": WRITE_1H}
    full = at | {name: base * by for name, by in implied.items() if at[name] is None}
    search = SEARCH if own.web_search is None else Decimal(str(own.web_search))
    return _rates_of(full, search, times, 0)


def _rates_of(at: dict[str, Decimal | None], search: Decimal, times: Decimal, above: int) -> _Rates:
    """Return rates a token from prices of a million tokens."""
    rates = {name: float((each or 0) * times / _PER) for name, each in at.items()}
    return _Rates(above=above, web_search=float(search / 1000), **rates)


LIST: Final = Prices()
"""The public list alone."""
cost: Final = LIST.cost
