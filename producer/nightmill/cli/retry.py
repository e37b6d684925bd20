"""`nightmill retry`: run the failed jobs of a batch again with their stored requests."""

from __future__ import annotations

import asyncio
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from nightmill.cli import options
from nightmill.cli.source_options import AllowUnknown, parse_changes
from nightmill.cli.terminal import echo
from nightmill.errors import JobNotFoundError, StoreMissingError
from nightmill.reports.progress import counted

if TYPE_CHECKING:
    from nightmill.maintenance.requeue import Requeued
    from nightmill.settings import Settings
    from nightmill.store import ResultStore


def retry(  # noqa: PLR0913 - one parameter an option: that is typer's interface
    batch: Annotated[str, typer.Argument(metavar="BATCH", help='The batch; "" for single jobs.')],
    *,
    error: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Only jobs that failed with this error type.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set a request field; null removes it."),
    ] = None,
    allow_unknown: AllowUnknown = False,
    window: options.Window = None,
    redis_url: options.RedisUrl = None,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Enqueue the failed jobs of a batch again.

    Their stored requests are sent, with the changes of --set. A VALUE is JSON, or text when it is
    not JSON. Earlier attempts are kept. Exits with 1 when a failed job had to be left out.

    For example:

    nightmill retry prompts

    nightmill retry prompts --error overloaded_error

    nightmill retry prompts --error invalid_request_error --set max_tokens=4096
    """
    from nightmill.queue.locate import with_redis  # noqa: PLC0415 - `--help` stays fast
    from nightmill.settings import load_settings  # noqa: PLC0415

    patch = parse_changes(changes or (), allow_unknown=allow_unknown)
    loaded = load_settings(
        window=window, redis_url=redis_url, store_url=store_url, data_dir=data_dir
    )
    with with_redis(loaded) as settings:
        done = asyncio.run(_retry(settings, batch, error, patch))
    echo(_summary(batch, done))
    if done.left_out:
        echo(_left_out(batch, done), err=True)
        raise typer.Exit(1)


async def _retry(
    settings: Settings, batch: str, error: str | None, patch: dict[str, object]
) -> Requeued:
    """Requeue the failed jobs and show the progress.

    A paused batch is pointed out first: its jobs do not run until it is resumed.
    """
    from nightmill.cli.live import showing  # noqa: PLC0415
    from nightmill.cli.session import open_session, require_rows  # noqa: PLC0415
    from nightmill.maintenance.requeue import requeue  # noqa: PLC0415

    async with open_session(settings) as session:
        if session.store is None:
            raise StoreMissingError
        await require_rows(session.store, batch)
        if error is not None:
            await _require_type(session.store, batch, error)
        if (counts := await session.batches.counts(batch)).flag == "paused":
            resume = f"nightmill resume {shlex.quote(batch)}"
            echo(f"the batch is paused ({counts.reason}): {resume}", err=True)
        async with showing(session.batches, batch):
            return await requeue(
                batch, session.store, session.producer, session.batches, error=error, patch=patch
            )


async def _require_type(store: ResultStore, batch: str, error: str) -> None:
    """Raise JobNotFoundError, which lists the known types, unless a job failed with `error`."""
    types = sorted({info.type for info, _, _ in await store.errors(batch)})
    if error not in types:
        known = ", ".join(types) or "none"
        raise JobNotFoundError(f'no job of batch "{batch}" failed with {error}; types: {known}')


def _summary(batch: str, done: Requeued) -> str:
    already = f", {done.queued_already:,} queued already" if done.queued_already else ""
    return f'requeued {counted(done.new, "failed job")} of batch "{batch}"{already}'


def _left_out(batch: str, done: Requeued) -> str:
    parts = []
    if done.invalid:
        parts.append(f"{done.invalid:,} would be invalid requests ({done.problem})")
    if done.without_request:
        parts.append(
            f"{done.without_request:,} have no stored request; correct them in the source, then "
            f"nightmill enqueue IN.jsonl --batch {shlex.quote(batch)} --changed rerun"
        )
    return "left out: " + "; ".join(parts)
