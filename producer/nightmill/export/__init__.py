"""Stored results as files: JSON lines in the Message Batches shape, or flat tables."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from nightmill.checked.reading import Outputs, accepted_as
from nightmill.errors import ExportError
from nightmill.export.flat import COLUMNS, Kind, Row, row_of
from nightmill.export.joined import Reader, columns_of
from nightmill.export.lines import nested, to_line
from nightmill.export.outputs import is_terminal, opened
from nightmill.export.parsed import OUTPUT, OutputColumns
from nightmill.export.tables import CSV, Format, JSONLines, Parquet, Table, format_of
from nightmill.params import closest
from nightmill.queue.keys import job_id
from nightmill.records.result import Result
from nightmill.records.state import JobState
from nightmill.sources import Source

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from nightmill.store import ResultStore

__all__ = ["COLUMNS", "Format", "export", "export_jsonl", "format_of", "to_line"]


async def export(  # noqa: PLR0913 - the options of `nightmill results`
    store: ResultStore,
    batch: str,
    out: str | Path,
    *,
    format: Format | None = None,  # noqa: A002 - as the option is called
    fields: Sequence[str] | None = None,
    flat: bool = False,
    source: Source | None = None,
    statuses: Collection[JobState] | None = None,
    ordered: bool = True,
    excel_safe: bool = False,
    ids: Iterable[str] | None = None,
) -> int:
    """Write the results of `batch` to `out` and return how many were written.

    `out` is a file, "-" for stdout, or an fsspec URL; a file that exists is replaced when all is
    written. `format` None: by the suffix of `out`, .csv or .parquet, else JSON lines. JSON lines
    have the Message Batches shape unless `flat`. CSV and Parquet always have flat rows, with the
    columns COLUMNS. Where the batch has a schema, JSON lines have `output`, and rows a column
    `output.<field>` for each field that the schema names. With `source`, the input of the batch,
    rows are flat and have its columns too. `fields` chooses columns and their order, None takes
    all. Results are in
    the source's order if `ordered`, else in the order in which they finished. `statuses` chooses
    results by how they ended, None takes all. With `ids`, custom_ids, only their results are
    written, in that order. With `excel_safe`, a text of a CSV file that a
    spreadsheet would run as a formula has a ' before it. The same results give the same bytes.
    Memory is bounded. Raises ExportError, OSError, and what the store raises.
    """
    format = format or format_of(out)  # noqa: A001 - as the option is called
    if excel_safe and format != "csv":
        raise ExportError("--excel-safe is for --format csv: no other format has formulas")
    if format == "parquet" and is_terminal(out):
        raise ExportError("Parquet is not for a terminal: give a file, -o FILE")
    if source is not None and not ordered:
        raise ExportError("the source's columns need the source's order (--order input)")
    rows = flat or format != "jsonl" or source is not None
    known = await store.known(batch)
    accept = accepted_as(None if known is None else known.accept)
    outputs, parsed = Outputs(accept), OutputColumns(accept)
    taken = {**COLUMNS, **parsed.columns}
    added = columns_of(source, taken) if source else {}
    shape = _Shape({**taken, **added} if rows else None, fields, parsed)
    written = 0
    with ExitStack() as stack:
        reader = Reader(source, added, taken) if source else None
        file = stack.enter_context(opened(out))
        table = _table(file, format, shape.columns, excel_safe=excel_safe)
        found = (
            store.stream(batch, statuses=statuses, ordered=ordered)
            if ids is None
            else store.stream_of(job_id(batch, each) for each in ids)
        )
        async for result in found:
            table.add(shape.of(outputs.read(result), reader))
            written += 1
        table.end()
    return written


async def export_jsonl(  # noqa: PLR0913 - what to write, and where
    store: ResultStore,
    batch: str,
    out: str | Path,
    *,
    statuses: Collection[JobState] | None = None,
    ordered: bool = True,
    ids: Iterable[str] | None = None,
) -> int:
    """Write the results of `batch` as JSON lines in the Message Batches shape; see `export`.

    With `ids`, custom_ids, only their results are written, in that order.
    """
    return await export(
        store, batch, out, format="jsonl", statuses=statuses, ordered=ordered, ids=ids
    )


class _Shape:
    """The fields that are written of a result: nested ones, or with `columns` a flat row."""

    def __init__(
        self, columns: dict[str, Kind] | None, fields: Sequence[str] | None, parsed: OutputColumns
    ) -> None:
        known = list(columns or nested(Result(job_id="", status=JobState.EXPIRED)))
        if columns is None and parsed.columns:
            known.insert(known.index("result") + 1, OUTPUT)
        self._parsed = parsed
        for name in fields or ():
            if name not in known:
                raise ExportError(_no_field(name, known, flat=columns is not None))
        self._flat = columns is not None
        self._names = list(fields or known)
        self.columns = {name: columns[name] for name in self._names} if columns else {}

    def of(self, result: Result, source: Reader | None) -> Row:
        """Return the chosen fields, in the chosen order."""
        row = row_of(result) if self._flat else nested(result)
        if self._parsed.columns:
            row |= self._parsed.row(result) if self._flat else {OUTPUT: result.parsed}
        if source is not None:
            row |= source.row(result.seq)
        return {name: row.get(name) for name in self._names}


def _no_field(name: str, known: Sequence[str], *, flat: bool) -> str:
    """Return that there is no field `name`, and where it is or which there are."""
    if not flat and name in COLUMNS:
        return (
            f'JSON Lines have no "{name}"; add --flat (or --format csv) for one flat row a job, '
            f"which has it"
        )
    if flat and name in nested(Result(job_id="", status=JobState.EXPIRED)):
        return f'flat rows have no "{name}"; JSON Lines without --flat have it'
    near = closest(name, known)
    meant = f'. Did you mean "{near}"?' if near else ""
    return f'no field "{name}"; there are: {", ".join(known)}{meant}'


def _table(file: BinaryIO, kind: Format, columns: dict[str, Kind], *, excel_safe: bool) -> Table:
    match kind:
        case "csv":
            return CSV(file, columns, excel_safe=excel_safe)
        case "parquet":
            return Parquet(file, columns)
        case _:
            return JSONLines(file)
