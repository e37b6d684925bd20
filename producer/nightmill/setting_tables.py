"""Settings that are tables: own prices (PRICES). They raise ValueError, which names the entry."""

from __future__ import annotations

import math
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import msgspec

_DOLLARS: Final = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
_MOST_DOLLARS: Final = 1e6
_MOST_PERCENT: Final = 100
_FORMAT: Final = 'one table a model, such as ["claude-*"] with discount_percent = 10'


class OwnPrice(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One entry of a price file: prices of a model, or what is off the list price."""

    model: str = ""
    """The model's name, or a pattern with *."""
    input: float | None = None
    """US dollars for a million tokens, as are the next four."""
    output: float | None = None
    cache_read: float | None = None
    cache_write_5m: float | None = None
    cache_write_1h: float | None = None
    web_search: float | None = None
    """US dollars for 1,000 searches."""
    discount_percent: float = 0
    """Off the list price of tokens."""

    def fits(self, model: str) -> bool:
        """Tell whether the entry is about `model`."""
        return fnmatchcase(model, self.model)


def read_prices(path: str) -> dict[str, OwnPrice]:
    """Return the entries of a price file, TOML, by model. Raises ValueError for a wrong one."""
    try:
        tables = tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ValueError(f"the price file cannot be read: {reason}; name a TOML file") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"the price file is not TOML: {error}; write {_FORMAT}") from None
    return {model: _entry(model, table) for model, table in tables.items()}


def _entry(model: str, table: object) -> OwnPrice:
    if not isinstance(table, dict):
        problem = f"{model}: {table!r} is no table; write {_FORMAT}"
        raise ValueError(problem)  # noqa: TRY004 - a setting's error is a ValueError
    allowed = [name for name in OwnPrice.__struct_fields__ if name != "model"]
    for name, given in table.items():
        where = f'["{model}"] {name}'
        if name not in allowed:
            raise ValueError(f"{where}: no such field; allowed: {', '.join(allowed)}")
        most = _MOST_PERCENT if name == "discount_percent" else _MOST_DOLLARS
        number = isinstance(given, int | float) and not isinstance(given, bool)
        if not number or not math.isfinite(given) or not 0 <= given <= most:
            unit = "percent" if name == "discount_percent" else "US dollars"
            raise ValueError(f"{where}: {given!r} given; allowed: 0 to {most:,.0f} {unit}")
    own = OwnPrice(model=model, **table)
    priced = [name for name in (*_DOLLARS, "web_search") if getattr(own, name) is not None]
    if priced and (own.input is None or own.output is None):
        raise ValueError(f'["{model}"]: {priced[0]} is given alone; add both input and output')
    if priced and own.discount_percent:
        raise ValueError(
            f'["{model}"]: prices and discount_percent are both given; give the reduced prices, '
            "or only the discount"
        )
    if not priced and not own.discount_percent and "discount_percent" not in table:
        raise ValueError(f'["{model}"]: it is empty; add input and output, or discount_percent')
    return own
