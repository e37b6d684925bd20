"""Writes rows as JSON lines, CSV or Parquet, with a bounded number of rows in memory."""

from __future__ import annotations

import csv
import io
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, Protocol

import msgspec

from nightmill.errors import ExtraMissingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nightmill.export.flat import Kind, Row

Format = Literal["jsonl", "csv", "parquet"]

GROUP_ROWS: Final = 5_000
"""Most rows of a Parquet row group, which is built in memory."""
GROUP_BYTES: Final = 3 << 20
"""Characters of text after which a row group ends, also with fewer rows."""


FORMULA: Final = (*"=+-@\t\r\n", *"\uff1d\uff0b\uff0d\uff20")
"""First characters of a text that spreadsheets may run as a formula; the last four are full-width.
"""


def format_of(out: str | Path) -> Format:
    """Return the format that the suffix of `out` asks for."""
    suffix = Path(out).suffix.lower()
    return "csv" if suffix == ".csv" else "parquet" if suffix == ".parquet" else "jsonl"


def require_format(out: str | Path) -> None:
    """Raise ExtraMissingError when the format that the suffix of `out` asks for needs an extra."""
    if format_of(out) == "parquet" and find_spec("pyarrow") is None:
        raise ExtraMissingError("Parquet: pip install 'nightmill[parquet]'")


class Table(Protocol):
    """Writes rows in their order; `end` writes those that are still in memory."""

    def add(self, row: Row) -> None:
        """Take one row; it has every column."""

    def end(self) -> None:
        """Write what is in memory."""


class JSONLines:
    """One JSON object per line."""

    def __init__(self, file: BinaryIO) -> None:
        """Write to `file`, which the caller closes."""
        self._file = file

    def add(self, row: Row) -> None:
        """Write one line."""
        self._file.write(msgspec.json.encode(row) + b"\n")

    def end(self) -> None:
        """Do nothing: no row is in memory."""


class CSV:
    """A header and quoted fields (RFC 4180); times are ISO 8601, None is an empty field."""

    def __init__(
        self, file: BinaryIO, columns: Mapping[str, Kind], *, excel_safe: bool = False
    ) -> None:
        """Write the header to `file`, which the caller closes.

        `excel_safe` puts a ' before a text that a spreadsheet would run as a formula.
        """
        self._file = file
        self._excel_safe = excel_safe
        self._names = list(columns)
        self._buffer = io.StringIO()
        self._writer = csv.writer(self._buffer)
        self._write(self._names)

    def add(self, row: Row) -> None:
        """Write one row."""
        values = (row.get(name) for name in self._names)
        self._write([each.isoformat() if isinstance(each, datetime) else each for each in values])

    def end(self) -> None:
        """Do nothing: no row is in memory."""

    def _write(self, values: Sequence[object]) -> None:
        self._writer.writerow(map(_guarded, values) if self._excel_safe else values)
        self._file.write(self._buffer.getvalue().encode("utf-8", "replace"))
        self._buffer.seek(0)
        self._buffer.truncate()


def _guarded(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


class Parquet:
    """A Parquet file with typed columns, written a row group at a time (zstd)."""

    def __init__(self, file: BinaryIO, columns: Mapping[str, Kind]) -> None:
        """Write to `file`, which the caller closes. Raises ExtraMissingError."""
        try:
            import pyarrow as pa  # noqa: PLC0415 - optional extra
            from pyarrow import parquet  # noqa: PLC0415
        except ModuleNotFoundError:
            raise ExtraMissingError("Parquet: pip install 'nightmill[parquet]'") from None
        types = {
            "text": pa.string(),
            "int": pa.int64(),
            "float": pa.float64(),
            "bool": pa.bool_(),
            "time": pa.timestamp("ms", tz="UTC"),
        }
        self._schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
        self._group = pa.RecordBatch.from_pylist
        # The footer stays in memory to the end. It has the least and the greatest value of each
        # column per group, which is large for long texts, and no query needs the order of texts.
        ordered = [name for name, kind in columns.items() if kind != "text"]
        self._writer = parquet.ParquetWriter(
            file, self._schema, compression="zstd", write_statistics=ordered
        )
        self._rows: list[Row] = []
        self._bytes = 0

    def add(self, row: Row) -> None:
        """Take one row, and write the row group when it is full."""
        self._rows.append(row)
        self._bytes += sum(len(value) for value in row.values() if isinstance(value, str))
        if len(self._rows) == GROUP_ROWS or self._bytes > GROUP_BYTES:
            self._write()

    def end(self) -> None:
        """Write the last row group and the footer."""
        if self._rows:
            self._write()
        self._writer.close()

    def _write(self) -> None:
        self._writer.write_batch(self._group(self._rows, schema=self._schema))
        self._rows.clear()
        self._bytes = 0
