"""DataFrames as sources: pandas, polars and Arrow tables give their rows, none is imported here."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from typing import Any, cast

from nightmill.errors import InvalidParamsError
from nightmill.sources.names import same_names

Rows = Iterable[Mapping[str, object]] | AsyncIterable[Mapping[str, object]]


def rows_of(items: Rows) -> Rows:
    """Return the rows of a table of one of these libraries; any other iterable as it is.

    Raises InvalidParamsError for a table with two columns of one name.
    """
    table = cast("Any", items)
    if hasattr(items, "itertuples"):  # pandas
        names = [str(name) for name in table.columns]
        _require_different(names)
        tuples = table.itertuples(index=False, name=None)
        return (dict(zip(names, row, strict=True)) for row in tuples)
    if hasattr(items, "iter_rows"):  # polars
        return cast("Rows", table.iter_rows(named=True))
    if hasattr(items, "to_batches") and hasattr(items, "column_names"):  # Arrow
        _require_different(table.column_names)
        return (row for batch in table.to_batches() for row in batch.to_pylist())
    return items


def _require_different(names: Sequence[str]) -> None:
    if twice := same_names(names):
        raise InvalidParamsError("", twice)
