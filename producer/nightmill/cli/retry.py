"""`nightmill retry`: run ended jobs of a batch again with their stored requests."""

from __future__ import annotations

import asyncio
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from nightmill.cli import options
from nightmill.cli.grouped import grouped
from nightmill.cli.source_options import AllowUnknown, parse_changes
from nightmill.cli.terminal import echo
from nightmill.cli.which_options import WhichOptions
from nightmill.errors import JobNotFoundError
from nightmill.records.state import JobState
from nightmill.records.stop_reasons import named, shown
from nightmill.reports.progress import counted

if TYPE_CHECKING:
    from nightmill.maintenance.requeue import Requeued
    from nightmill.queue.batches import Batches
    from nightmill.settings import Settings
    from nightmill.store import ResultStore


@grouped
def retry(  # noqa: PLR0913 - one parameter an option: that is typer's interface
    batch: Annotated[str, typer.Argument(metavar="BATCH", help='The batch; "" for single jobs.')],
    *,
    which: WhichOptions,
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
    """Enqueue failed, cut or cancelled jobs of a batch again.

    Without an option that says which, all failed jobs. Their stored requests are sent, with the
    changes of --set. A VALUE is JSON, or text when it is not JSON. Earlier attempts are kept.
    Of a Message Batch that has ended, they become a new Message Batch, whose id is printed.
    Exits with 1 when a job had to be left out.

    For example:

    nightmill retry prompts

    nightmill retry prompts --error overloaded_error

    nightmill retry prompts --truncated --set max_tokens=4096

    nightmill retry prompts --stop-reason refusal --set model=NAME

    nightmill retry prompts --cancelled
    """
    from nightmill.queue.locate import with_redis  # noqa: PLC0415 - `--help` stays fast
    from nightmill.settings import load_settings  # noqa: PLC0415

    patch = parse_changes(changes or (), allow_unknown=allow_unknown)
    which.require(patch)
    loaded = load_settings(
        window=window, redis_url=redis_url, store_url=store_url, data_dir=data_dir
    )
    with with_redis(loaded) as settings:
        done, hints = asyncio.run(_retry(settings, batch, which, patch))
    none_selected = not (done.new or done.queued_already)
    echo(("; " if none_selected else " ").join([_summary(batch, which, done), *hints]))
    if done.left_out:
        echo(_left_out(batch, done), err=True)
        raise typer.Exit(1)


async def _retry(
    settings: Settings, batch: str, which: WhichOptions, patch: dict[str, object]
) -> tuple[Requeued, list[str]]:
    """Requeue the selected jobs and show the progress; return what to do next, too.

    A paused batch is pointed out first: its jobs do not run until it is resumed.
    """
    from nightmill.cli.live import showing  # noqa: PLC0415
    from nightmill.cli.session import open_session, require_rows  # noqa: PLC0415
    from nightmill.maintenance.requeue import requeue  # noqa: PLC0415

    async with open_session(settings) as session:
        store = await session.stored(batch)
        await require_rows(store, batch)
        await _require_known(store, batch, which)
        if (counts := await session.batches.counts(batch)).flag == "paused":
            resume = f"nightmill resume {shlex.quote(batch)}"
            echo(f"the batch is paused ({counts.reason}): {resume}", err=True)
        async with showing(session.batches, batch, settings):
            done = await requeue(
                *(batch, store, session.producer, session.batches),
                which=which.selection(),
                patch=patch,
            )
        if done.batch:
            return done, []
        if done.new or done.queued_already:
            return done, await _worker_hint(session.batches, batch, patched=bool(patch))
        return done, await _other_jobs(store, batch, which)


async def _require_known(store: ResultStore, batch: str, which: WhichOptions) -> None:
    """Raise JobNotFoundError, which lists the known ones, for an error or stop reason of no job."""
    if which.error is not None:
        types = sorted({info.type async for page in store.errors(batch) for info, _, _ in page})
        _require_in(types, which.error, f'no job of batch "{batch}" failed with', "types")
    if (reason := which.stopped_with) is not None and not which.truncated:
        found = {named(status, reason) for status, reason, *_ in await store.stops(batch)}
        reasons = sorted(found - {""})
        _require_in(
            *(reasons, reason, f'no answer of batch "{batch}" stopped with'), "stop reasons"
        )


def _require_in(known: list[str], given: str, problem: str, what: str) -> None:
    if given not in known:
        raise JobNotFoundError(f"{problem} {given}; {what}: {', '.join(known) or 'none'}")


async def _worker_hint(batches: Batches, batch: str, *, patched: bool) -> list[str]:
    """Return how to run the jobs while no worker does."""
    if not await batches.lacks_worker(batch):
        return []
    run = '"nightmill run" command with --changed keep' if patched else '"nightmill run" command'
    again = f'run the same {run}, or start "nightmill worker"' if batch else "nightmill worker"
    return [f"No worker is running: {again}."]


async def _other_jobs(store: ResultStore, batch: str, which: WhichOptions) -> list[str]:
    """Return which other jobs could run again, when none was selected, and the commands."""
    name, rows = shlex.quote(batch), await store.counts(batch)
    hints = [
        f"its {rows[state]:,} {state} ones are not retried: nightmill retry {name} --{state}"
        for state in (JobState.CANCELLED, JobState.EXPIRED)
        if rows[state] and state not in which.selection().statuses
    ]
    stops = shown(await store.stop_reasons(batch))
    return [*hints, f"{stops}: nightmill errors {name}"] if stops else hints


def _summary(batch: str, which: WhichOptions, done: Requeued) -> str:
    if done.batch:
        are = "is" if done.new == 1 else "are"
        jobs = counted(done.new, which.noun)
        return f'"{batch}" has ended: {jobs} {are} in the new batch {done.batch}.'
    if done.new:
        already = f" ({done.queued_already:,} were queued already)" if done.queued_already else ""
        are = "is" if done.new == 1 else "are"
        return f'{counted(done.new, which.noun)} of "{batch}" {are} queued again{already}.'
    if done.queued_already:
        are = "is" if done.queued_already == 1 else "are"
        return f'{counted(done.queued_already, which.noun)} of "{batch}" {are} queued already.'
    return f'"{batch}" has no {which.noun}s'


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
