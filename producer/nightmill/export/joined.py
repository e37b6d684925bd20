"""The columns of the source's own rows, put beside the results they led to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from nightmill.export.flat import COLUMNS, Kind, Row
from nightmill.sources import Rejected, Source, read_rows

PREFIX: Final = "input_"
"""Put before a source's column that has the name of one of ours."""

_KINDS: Final[dict[type, Kind]] = {bool: "bool", int: "int", float: "float", str: "text"}


def columns_of(source: Source) -> dict[str, Kind]:
    """Return the columns of a source and their kinds, in one pass with flat memory.

    What is no plain value, or not the same kind in every line, becomes text (JSON). Raises
    SourceError.
    """
    kinds: dict[str, Kind] = {}
    for _, row in _rows(source):
        for name, value in row.items():
            if value is not None:
                kinds[name] = _merged(kinds.get(name), _KINDS.get(type(value), "text"))
    return {named(name): kind for name, kind in kinds.items()}


def named(column: str) -> str:
    """Return what a source's `column` is called in an export."""
    return f"{PREFIX}{column}" if column in COLUMNS else column


class Reader:
    """Reads a source beside results that come in its order: one line in memory at a time."""

    def __init__(self, source: Source, columns: dict[str, Kind]) -> None:
        """Take the source and what `columns_of` said of it."""
        self._rows = _rows(source)
        self._columns = columns
        self._number, self._row = next(self._rows, (0, {}))

    def row(self, seq: int | None) -> Row:
        """Return the columns of line `seq`; {} for a job that did not come from the source."""
        while seq is not None and 0 < self._number < seq:
            self._number, self._row = next(self._rows, (0, {}))
        if seq is None or seq != self._number:
            return {}
        return {
            named(name): _plain(value, self._columns.get(named(name)))
            for name, value in self._row.items()
        }


def _rows(source: Source) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield the numbers and columns of all rows but those that cannot be read: no job is theirs."""
    for row in read_rows(source):
        if not isinstance(row, Rejected):
            yield row.number, row.columns


def _merged(before: Kind | None, kind: Kind) -> Kind:
    if before is None or before == kind:
        return kind
    return "float" if {before, kind} == {"int", "float"} else "text"


def _plain(value: object, kind: Kind | None) -> object:
    if value is None or (kind != "text" and not isinstance(value, (dict, list))):
        return float(value) if kind == "float" and isinstance(value, int) else value
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
