"""Settings that are tables: own prices (PRICES), models that share a limit (LIMIT_GROUPS).

They raise ValueError, which names the entry.
"""

from __future__ import annotations

import math
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import msgspec

TOKEN_PRICES: Final = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")
"""The prices of tokens that an entry may name."""
_MOST_DOLLARS: Final = 1e6
_MOST_PERCENT: Final = 100
# Models whose calls draw on one limit. Source: https://platform.claude.com/docs/en/api/rate-limits,
# as it was in October 2026: its tables have one row for Opus 4.x (4.8 to 4.5), Sonnet 4.x (4.6 and
# 4.5) and Fable 5.x. Every other model (Opus 5, Opus 5.5, Sonnet 5 ...) has a limit of its own.
DEFAULT_GROUPS: Final = (
    ("claude-opus-4.x", "claude-opus-4-", 1),
    ("claude-sonnet-4.x", "claude-sonnet-4-", 1),
    ("claude-fable-5.x", "claude-fable-5", 1),
)
"""(lane, model or start of models, 1 for a start); the first one that fits counts."""
_LONGEST_GROUP: Final = 100
_FAST: Final = " fast"
"""Ends the names of lanes of calls in fast mode."""
_NO_GROUPS: Final = "none"
_GROUPS: Final = "GROUP=MODEL,MODEL-*; GROUP=..., or none"
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
        tables = tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8-sig"))
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
        if isinstance(given, dict):
            fix = f'put quotes around a name with dots, such as ["{model}.{name}"]'
            problem = f"{where}: a table in a table; {fix}"
            raise ValueError(problem)  # noqa: TRY004 - a setting's error is a ValueError
        if name not in allowed:
            raise ValueError(f"{where}: no such field; allowed: {', '.join(allowed)}")
        most = _MOST_PERCENT if name == "discount_percent" else _MOST_DOLLARS
        number = isinstance(given, int | float) and not isinstance(given, bool)
        if not number or not math.isfinite(given) or not 0 <= given <= most:
            unit = "percent" if name == "discount_percent" else "US dollars"
            raise ValueError(f"{where}: {given!r} given; allowed: 0 to {most:,.0f} {unit}")
    own = OwnPrice(model=model, **table)
    priced = [name for name in (*TOKEN_PRICES, "web_search") if getattr(own, name) is not None]
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


def read_groups(given: str | None) -> tuple[tuple[str, str, int], ...]:
    """Return the groups of LIMIT_GROUPS, then the default ones; () for `none`.

    Raises ValueError for a text that is neither `none` nor GROUP=MODEL,MODEL;GROUP=... nor a JSON
    object of such lists.
    """
    if not given:
        return DEFAULT_GROUPS
    if given.strip() == _NO_GROUPS:
        return ()
    own = [
        (_name(group), *_pattern(group, model))
        for group, models in _group_lists(given)
        for model in models
    ]
    return (*own, *DEFAULT_GROUPS)


def _group_lists(given: str) -> list[tuple[str, list[str]]]:
    if given.lstrip().startswith("{"):
        try:
            return list(msgspec.json.decode(given, type=dict[str, list[str]]).items())
        except msgspec.MsgspecError as error:
            raise ValueError(f"not a JSON object of lists of models: {error}") from None
    found = []
    for part in filter(str.strip, given.split(";")):
        group, equals, models = part.partition("=")
        if not equals or not models.strip():
            raise ValueError(f"{part.strip()!r} names no models: write {_GROUPS}")
        found.append((group.strip(), [model.strip() for model in models.split(",")]))
    return found


def _name(group: str) -> str:
    if not group.isprintable() or not 1 <= len(group) <= _LONGEST_GROUP or group.endswith(_FAST):
        problem = (
            f"{group!r} is no group's name: 1 to {_LONGEST_GROUP} printable characters,"
            f" not {_FAST!r} at the end"
        )
        raise ValueError(problem)
    return group


def _pattern(group: str, model: str) -> tuple[str, int]:
    start = model.removesuffix("*")
    if not start or "*" in start:
        problem = f"{group}: {model!r} is no model: give its name, or its start and a final *"
        raise ValueError(problem)
    return start, int(start != model)
