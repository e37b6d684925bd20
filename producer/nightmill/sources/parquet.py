"""Parquet -> rows. Reads a few rows at a time, and only the columns that are used."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from uuid import UUID

import msgspec

from nightmill.errors import ExtraMissingError, InvalidParamsError, SourceError
from nightmill.params import dotted
from nightmill.sources.line import Rejected, Row, rejected
from nightmill.sources.names import near_twins, same_names

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

BATCH_BYTES: Final = 4 << 20
"""Rows are read in groups of at most this size, by their mean size."""
BATCH_ROWS: Final = 1000
BUFFER_BYTES: Final = 1 << 20
OPTIONAL: Final = frozenset({"custom_id", "prompt"}) | {
    *("range", "dict", "lipsum", "cycler", "joiner", "namespace"),
}
"""Columns that a template uses if they are there; the second line: names of Jinja's functions."""


def read_parquet(
    stream: BinaryIO, only: AbstractSet[str] | None, name: str
) -> Iterator[Row | Rejected]:
    """Yield the rows of `stream`, which must be seekable; `name` is for messages.

    Rows have the columns `only` (None: all). When a needed one of them is missing, all columns are
    read, so that an error can list them. Dates, times, decimals and UUIDs become text, and so do
    bytes that are UTF-8. A row with a value that Python cannot hold is Rejected. Raises
    ExtraMissingError, and SourceError when it is not Parquet or two columns have one name.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - optional extra
        from pyarrow.parquet import ParquetFile  # noqa: PLC0415
    except ModuleNotFoundError:
        package = "pip install 'nightmill[parquet]'"
        raise ExtraMissingError(f"Parquet needs a package: {package}") from None
    if not stream.seekable():
        raise SourceError(
            f"{name}: Parquet is read from its end, and this server reports no length or sends "
            "files from their beginning only: download the file and give its path"
        )
    number = 0
    try:
        file = ParquetFile(stream, pre_buffer=False, buffer_size=BUFFER_BYTES)
        names = list(file.schema_arrow.names)
        if only is not None and only - OPTIONAL <= set(names):
            names = [name for name in names if name in only]
        if twice := same_names(names):
            raise SourceError(f"{name}: {twice}")
        twins = near_twins(file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=_rows(file), columns=names, use_threads=False):
            columns = [_values(column) for column in batch.columns]
            for place in range(batch.num_rows):
                number += 1
                cells = {name: column[place] for name, column in zip(names, columns, strict=True)}
                yield _row(number, cells, (twins,) if twins and number == 1 else ())
    except (pa.ArrowException, OSError) as error:
        problem = " ".join(str(error).split())
        raise SourceError(f"{name}: cannot be read as Parquet: {problem}") from None


def _row(number: int, cells: dict[str, object], warnings: tuple[str, ...]) -> Row | Rejected:
    for name, value in cells.items():
        if isinstance(value, _Unreadable):
            return rejected(number, InvalidParamsError(dotted((name,)), value.problem))
    columns = {name: _plain(value) for name, value in cells.items()}
    return Row(number=number, columns=columns, table=True, warnings=warnings)


class _Unreadable(msgspec.Struct, frozen=True):
    """A value that Python cannot hold."""

    problem: str


def _rows(file: ParquetFile) -> int:
    """Return how many rows to read at once: fewer when rows are large."""
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    size = max((g.total_byte_size / g.num_rows for g in groups if g.num_rows), default=1.0)
    return max(1, min(BATCH_ROWS, int(BATCH_BYTES / max(size, 1.0))))


def _values(column: Any) -> list[object]:  # noqa: ANN401 - a pyarrow array, which has no types
    """Return a column as Python values, cut to microseconds: Python has no nanoseconds."""
    import pyarrow as pa  # noqa: PLC0415

    kind = column.type
    if pa.types.is_timestamp(kind) and kind.unit == "ns":
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    elif pa.types.is_time64(kind) and kind.unit == "ns":
        column = column.cast(pa.time64("us"), safe=False)
    elif pa.types.is_duration(kind) and kind.unit == "ns":
        column = column.cast(pa.duration("us"), safe=False)
    try:
        values: list[object] = column.to_pylist()
    except (pa.ArrowException, OverflowError, ValueError):
        values = [_value(value) for value in column]
    return values


def _value(value: Any) -> object:  # noqa: ANN401 - a pyarrow scalar, which has no types
    """Return one value of a column that has values which Python cannot hold."""
    try:
        found: object = value.as_py()
    except OverflowError:
        return _Unreadable("out of range; dates and times have the years 1 to 9999")
    except Exception as error:  # noqa: BLE001 - a time zone that is not known, for example
        return _Unreadable(f"cannot be read: {' '.join(str(error).split())}")
    return found


def _plain(value: object) -> object:
    """Return `value` as JSON and templates can use it; bytes that are not UTF-8 stay bytes."""
    plain = value
    match value:
        case bytes():
            with suppress(UnicodeDecodeError):
                plain = value.decode()
        case datetime() | date() | time():
            plain = value.isoformat()
        case Decimal() | UUID() | timedelta():
            plain = str(value)
        case dict():
            plain = {name: _plain(item) for name, item in value.items()}
        case list() | tuple():
            plain = [_plain(item) for item in value]
    return plain
