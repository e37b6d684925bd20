"""`nightmill results`: write a batch's stored results as JSON Lines."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nightmill.cli import options
from nightmill.errors import BatchNotFoundError, StoreError
from nightmill.state import JobState

if TYPE_CHECKING:
    from nightmill.settings import Settings
    from nightmill.store import ResultStore


def results(  # noqa: PLR0913 - one parameter an option: that is typer's interface
    batch: Annotated[str, typer.Argument(metavar="BATCH", help='The batch; "" for single jobs.')],
    *,
    out: Annotated[Path, typer.Option("-o", "--out", help="A file; - is standard output.")] = Path(
        "-"
    ),
    failed: Annotated[bool, typer.Option("--failed", help="Only jobs that failed.")] = False,
    succeeded: Annotated[
        bool, typer.Option("--succeeded", help="Only jobs that succeeded.")
    ] = False,
    order: Annotated[
        Literal["input", "finished"], typer.Option(help="As the source had them, or as they ended.")
    ] = "input",
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Write the stored results of a batch as JSON Lines, also while it still runs.

    Each line has the result in the Message Batches shape, the usage and every attempt.

    For example:

    nightmill results prompts -o results.jsonl

    nightmill results prompts --failed --order finished
    """
    from nightmill.settings import load_settings  # noqa: PLC0415 - `--help` stays fast

    asked = {JobState.FAILED: failed, JobState.SUCCEEDED: succeeded}
    statuses = {state for state, wanted in asked.items() if wanted} or None
    settings = load_settings(store_url=store_url, data_dir=data_dir)
    written = asyncio.run(_export(settings, batch, out, statuses, ordered=order == "input"))
    typer.echo(f'{written:,} results of batch "{batch}"', err=True)


async def _export(
    settings: Settings, batch: str, out: Path, statuses: set[JobState] | None, *, ordered: bool
) -> int:
    from nightmill.cli.session import open_store  # noqa: PLC0415
    from nightmill.export import export_jsonl  # noqa: PLC0415

    where = settings.store_at
    if isinstance(where, Path) and not where.exists():
        raise BatchNotFoundError(f"no results here: there is no {where}")
    async with open_store(settings) as store:
        await _require(store, batch)
        try:
            return await export_jsonl(store, batch, out, statuses=statuses, ordered=ordered)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StoreError(f"{out}: cannot be written: {error.strerror}") from None


async def _require(store: ResultStore, batch: str) -> None:
    """Raise BatchNotFoundError that names the batches there are, unless `batch` has a row."""
    if not sum((await store.counts(batch)).values()):
        known = ", ".join(name for name in await store.batches() if name) or "none"
        raise BatchNotFoundError(f'no results of a batch "{batch}"; batches with results: {known}')
