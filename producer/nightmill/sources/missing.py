"""Missing values: how JSON, tables, pandas and NumPy write that a row has no value in a column."""

from __future__ import annotations

from typing import Final

MARKS: Final = frozenset({"", "nan", "NaN", "NaT", "None", "null", "NULL", "<NA>", "#N/A", "\\N"})
"""Texts by which programs write a missing value. They may be meant as they are."""

MAX_MARK: Final = max(map(len, MARKS))

_WHOLE: Final = (str, int, bytes, list, dict, tuple)
"""Types of which every value is a value."""


def is_missing(value: object) -> bool:
    """Return whether `value` is null, NaN (of any number type), NaT or pandas.NA."""
    if value is None:
        return True
    if isinstance(value, _WHOLE):
        return False
    try:
        return bool(value != value)  # noqa: PLR0124 - only NaN and NaT differ from themselves
    except Exception:  # noqa: BLE001 - pandas.NA has no truth; a signalling NaN cannot be compared
        return type(value).__name__ in {"NAType", "Decimal"}


def is_empty(value: object) -> bool:
    """Return whether a table's cell holds no value: a missing one, or a blank text."""
    if isinstance(value, str):
        return not value or value.isspace()
    return is_missing(value)


def name_of(value: object) -> str:
    """Return the word for a missing value: null, empty, NaN, NaT or NA."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return "empty"
    return {"NaTType": "NaT", "NAType": "NA"}.get(type(value).__name__, "NaN")
