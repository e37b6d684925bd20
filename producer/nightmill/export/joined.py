"""Adds the columns of the source's rows to the results of their jobs."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

import msgspec

from nightmill.export.flat import COLUMNS, Kind, Row
from nightmill.records.bounds import MAX_INT, without_surrogates
from nightmill.sources import Rejected, Source, read_rows

PREFIX: Final = "input_"
"""Prefix of a source's column whose name is that of a result's column."""

_KINDS: Final[dict[type, Kind]] = {bool: "bool", int: "int", float: "float", str: "text"}


def columns_of(source: Source, taken: Collection[str] = COLUMNS) -> dict[str, Kind]:
    """Return the columns of a source and their kinds; reads the source once, line by line.

    A column with values that are not plain, or of different kinds, becomes text (JSON). Raises
    SourceError.
    """
    kinds: dict[str, Kind] = {}
    for _, row in _rows(source):
        for name, value in row.items():
            if value is not None:
                kinds[name] = _merged(kinds.get(name), _kind(value))
    return {named(name, taken): kind for name, kind in kinds.items()}


def named(column: str, taken: Collection[str] = COLUMNS) -> str:
    """Return the name of a source's `column` in an export, whose other columns are `taken`."""
    return f"{PREFIX}{column}" if column in taken else column


class Reader:
    """Reads a source line by line, in step with results that come in its order."""

    def __init__(
        self, source: Source, columns: dict[str, Kind], taken: Collection[str] = COLUMNS
    ) -> None:
        """Take the source, its columns as `columns_of` returns them, and what names are taken."""
        self._taken = taken
        self._rows = _rows(source)
        self._columns = columns
        self._number, self._row = next(self._rows, (0, {}))

    def row(self, seq: int | None) -> Row:
        """Return the columns of line `seq`; {} for a job that is not from the source."""
        while seq is not None and 0 < self._number < seq:
            self._number, self._row = next(self._rows, (0, {}))
        if seq is None or seq != self._number:
            return {}
        return {
            (column := named(name, self._taken)): _plain(value, self._columns.get(column))
            for name, value in self._row.items()
        }


def _rows(source: Source) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield number and columns of each row; one that cannot be read has no job and is left out."""
    for row in read_rows(source):
        if not isinstance(row, Rejected):
            yield row.number, row.columns


def _merged(before: Kind | None, kind: Kind) -> Kind:
    if before is None or before == kind:
        return kind
    return "float" if {before, kind} == {"int", "float"} else "text"


def _kind(value: object) -> Kind:
    if isinstance(value, int) and abs(value) > MAX_INT:
        return "text"
    return _KINDS.get(type(value), "text")


def _plain(value: object, kind: Kind | None) -> object:
    if value is None or (kind != "text" and not isinstance(value, (dict, list))):
        return float(value) if kind == "float" and isinstance(value, int) else value
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return without_surrogates(text)
