"""`nightmill retry`: run the failed jobs of a batch again, from their stored requests."""

from __future__ import annotations

import asyncio
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from nightmill.cli import options
from nightmill.cli.inputs import changes_of
from nightmill.errors import JobNotFoundError, StoreMissingError

if TYPE_CHECKING:
    from nightmill.maintenance.requeue import Requeued
    from nightmill.settings import Settings
    from nightmill.store import ResultStore


def retry(  # noqa: PLR0913 - one parameter an option: that is typer's interface
    batch: Annotated[str, typer.Argument(metavar="BATCH", help='The batch; "" for single jobs.')],
    *,
    error: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Only those that failed with this type.")
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a request field; null takes it out."
        ),
    ] = None,
    window: options.Window = None,
    redis_url: options.RedisUrl = None,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Enqueue the failed jobs of a batch again; their attempts so far are kept.

    The requests are the stored ones. A value is JSON, or text when it is no JSON. Exits with 1
    when a failed job had to be left out.

    For example:

    nightmill retry prompts

    nightmill retry prompts --error overloaded_error

    nightmill retry prompts --error invalid_request_error --set max_tokens=4096
    """
    from nightmill.queue.locate import with_redis  # noqa: PLC0415 - `--help` stays fast
    from nightmill.settings import load_settings  # noqa: PLC0415

    patch = changes_of(changes or ())
    loaded = load_settings(
        window=window, redis_url=redis_url, store_url=store_url, data_dir=data_dir
    )
    with with_redis(loaded) as settings:
        done = asyncio.run(_retry(settings, batch, error, patch))
    typer.echo(_summary(batch, done))
    if done.left_out:
        typer.echo(_left_out(batch, done), err=True)
        raise typer.Exit(1)


async def _retry(
    settings: Settings, batch: str, error: str | None, patch: dict[str, object]
) -> Requeued:
    """Requeue, with progress shown; a paused batch is told first, since it waits for a person."""
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
            typer.echo(f"the batch is paused ({counts.reason}): {resume}", err=True)
        async with showing(session.batches, batch):
            return await requeue(
                batch, session.store, session.producer, session.batches, error=error, patch=patch
            )


async def _require_type(store: ResultStore, batch: str, error: str) -> None:
    """Raise an error that names the types there are unless a job failed with `error`."""
    types = sorted({info.type for info, _, _ in await store.errors(batch)})
    if error not in types:
        there = ", ".join(types) or "none"
        raise JobNotFoundError(f'no job of batch "{batch}" failed with {error}; types: {there}')


def _summary(batch: str, done: Requeued) -> str:
    already = f", {done.queued_already:,} queued already" if done.queued_already else ""
    return f'requeued {done.new:,} failed jobs of batch "{batch}"{already}'


def _left_out(batch: str, done: Requeued) -> str:
    parts = []
    if done.invalid:
        parts.append(f"{done.invalid:,} would break the contract ({done.problem})")
    if done.without_request:
        parts.append(
            f"{done.without_request:,} have no stored request; change them in their source, then "
            f"nightmill enqueue IN.jsonl --batch {shlex.quote(batch)} --changed rerun"
        )
    return "left out: " + "; ".join(parts)
