"""Errors that name a column which is not there."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from nightmill.params import closest


def no_column(columns: Collection[object], name: str) -> str:
    """Return the problem of a row without column `name`; it lists the columns that it has."""
    return f'no column "{name}" in this row; {columns_there(columns, name)}'


def columns_there(columns: Collection[object], name: str) -> str:
    """Return the columns that there are, and the one that may be meant by `name`."""
    meant = closest(name, columns)
    there = ", ".join(map(str, columns)) or "none"
    return f"there are: {there}" + (f'; did you mean "{meant}"?' if meant else "")


def same_names(names: Sequence[str]) -> str:
    """Return the problem of a table with two columns of one name; "" when there is none."""
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    return "" if twice is None else f'two columns have the name "{twice}"; each needs its own'


def near_twins(names: Sequence[str]) -> str:
    """Return a warning of names that differ in case or spaces only; "" when there are none."""
    folded: dict[str, str] = {}
    for name in names:
        other = folded.setdefault("".join(name.casefold().split()), name)
        if other != name:
            return f'columns "{other}" and "{name}" have almost the same name'
    return ""
