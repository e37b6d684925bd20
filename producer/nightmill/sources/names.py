"""Errors that name a column which is not there."""

from __future__ import annotations

from collections.abc import Collection

from nightmill.params import closest


def no_column(columns: Collection[object], name: str) -> str:
    """Return the problem of a row without column `name`; it lists the columns that it has."""
    return f'no column "{name}" in this row; {columns_there(columns, name)}'


def columns_there(columns: Collection[object], name: str) -> str:
    """Return the columns that there are, and the one that may be meant by `name`."""
    meant = closest(name, columns)
    there = ", ".join(map(str, columns)) or "none"
    return f"there are: {there}" + (f'; did you mean "{meant}"?' if meant else "")
