"""`nightmill results`: write the stored results of a batch to a file, to stdout or to a URL."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nightmill.cli import options
from nightmill.cli.terminal import echo
from nightmill.errors import ExportError, SourceError, StoreError
from nightmill.records.state import JobState
from nightmill.reports.progress import counted

if TYPE_CHECKING:
    from nightmill.settings import Settings
    from nightmill.sources import Source
    from nightmill.store import ResultStore


def results(  # noqa: PLR0913 - one parameter an option: that is typer's interface
    batch: Annotated[str, typer.Argument(metavar="BATCH", help='The batch; "" for single jobs.')],
    *,
    out: Annotated[
        str, typer.Option("-o", "--out", help="A file or a URL; - is standard output.")
    ] = "-",
    format: Annotated[  # noqa: A002 - as the option is called
        Literal["jsonl", "csv", "parquet"] | None,
        typer.Option(
            help="jsonl has every detail; csv and parquet have one flat row a job.  "
            "[default: by the suffix of --out]"
        ),
    ] = None,
    fields: Annotated[
        str | None, typer.Option(metavar="A,B", help="Only these fields, in this order.")
    ] = None,
    flat: Annotated[bool, typer.Option("--flat", help="Write flat rows as JSON Lines.")] = False,
    source: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="Add the input file's columns to each output row."),
    ] = None,
    failed: Annotated[bool, typer.Option("--failed", help="Only jobs that failed.")] = False,
    succeeded: Annotated[
        bool, typer.Option("--succeeded", help="Only jobs that succeeded.")
    ] = False,
    order: Annotated[
        Literal["input", "finished"],
        typer.Option(help="Order of the source, or order of completion."),
    ] = "input",
    excel_safe: Annotated[
        bool,
        typer.Option(
            "--excel-safe",
            help="In CSV, put a ' before texts that a spreadsheet would run as formulas.",
        ),
    ] = False,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Write the stored results of a batch, also while it runs.

    Each JSON line has the result in the shape of the Message Batches API, the usage and every
    attempt. An existing file is replaced only when all results are written.

    For example:

    nightmill results prompts -o results.jsonl

    nightmill results prompts --failed --order finished

    nightmill results prompts --format csv --fields custom_id,text -o out.csv

    nightmill results prompts --format parquet --source in.jsonl -o s3://b/out
    """
    from nightmill.export import export  # noqa: PLC0415 - `--help` stays fast
    from nightmill.settings import load_settings  # noqa: PLC0415

    wanted = {JobState.FAILED: failed, JobState.SUCCEEDED: succeeded}
    settings = load_settings(store_url=store_url, data_dir=data_dir)
    work = partial(
        export,
        batch=batch,
        out=out,
        format=format,
        fields=_names(fields),
        flat=flat,
        source=None if source is None else _file_source(source),
        statuses={state for state, given in wanted.items() if given} or None,
        ordered=order == "input",
        excel_safe=excel_safe,
    )
    written, missing = asyncio.run(_export(settings, batch, out, work))
    echo(f'{counted(written, "result")} of batch "{batch}"{missing}', err=True)


def _file_source(source: str) -> Source:
    """Return the source of --source. Raises SourceError for a stream: it can be read only once."""
    from nightmill.sources import is_stream, source_of  # noqa: PLC0415 - `--help` stays fast

    if is_stream(source):
        raise SourceError(f"{source} can be read only once: give the file that was fed")
    return source_of(source)


def _names(fields: str | None) -> list[str] | None:
    """Return the names of --fields. Raises ExportError when there are none."""
    if fields is None:
        return None
    names = [name.strip() for name in fields.split(",") if name.strip()]
    if not names:
        raise ExportError("--fields names no field; for example: --fields custom_id,text")
    return names


async def _export(
    settings: Settings, batch: str, out: str, work: Callable[[ResultStore], Awaitable[int]]
) -> tuple[int, str]:
    """Return how many rows were written, and how many jobs of the batch have none, as text."""
    from nightmill.cli.session import open_results  # noqa: PLC0415

    async with open_results(settings, batch) as store:
        try:
            return await work(store), await _without_row(store, batch)
        except OSError as error:
            problem = error.strerror or str(error) or type(error).__name__
            raise StoreError(f"{out}: cannot be written: {problem}") from None


async def _without_row(store: ResultStore, batch: str) -> str:
    known = await store.known(batch)
    if known is None or known.total is None:
        return ""
    missing = known.total - sum((await store.counts(batch)).values())
    return f"; {missing:,} of its {known.total:,} jobs have no row" if missing > 0 else ""
