"""`nightmill cancel`: end a batch; jobs that were not called yet get `cancelled` rows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from nightmill.cli import options
from nightmill.cli.terminal import echo
from nightmill.reports.progress import counted

if TYPE_CHECKING:
    from nightmill.cli.session import Session
    from nightmill.queue.batches import Batches
    from nightmill.records.counts import Counts
    from nightmill.settings import Settings

LOOK_S = 0.2
"""Between two looks at a batch whose rows a worker writes, seconds."""


def cancel(
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="The batch to end.")],
    *,
    redis_url: options.RedisUrl = None,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """End a batch at once; jobs not yet called cost nothing.

    Calls in flight finish, and their results are stored. Jobs that were not called are recorded as
    `cancelled`. Lines that were not fed yet are never fed. This command writes the rows when this
    machine's store is the one in use. Otherwise workers write them.

    For example:

    nightmill cancel prompts
    """
    from nightmill.queue.locate import with_redis  # noqa: PLC0415 - `--help` stays fast
    from nightmill.settings import load_settings  # noqa: PLC0415

    loaded = load_settings(redis_url=redis_url, store_url=store_url, data_dir=data_dir)
    # With a Redis URL and no store URL, this process does not know which store the workers use.
    shared_store = loaded.redis_url is None or loaded.store_url is not None
    with with_redis(loaded) as settings:
        asyncio.run(_cancel(settings, batch, shared_store=shared_store))


async def _cancel(settings: Settings, batch: str, *, shared_store: bool) -> None:
    from nightmill.cli.session import open_session  # noqa: PLC0415
    from nightmill.enqueue.known import note  # noqa: PLC0415
    from nightmill.queue.used_store import noted  # noqa: PLC0415
    from nightmill.records.state import BatchState  # noqa: PLC0415

    async with open_session(settings, reads=True) as session:
        await session.batches.require(batch)
        await session.batches.cancel(batch)
        counts = await session.batches.counts(batch)
        if counts.flag == BatchState.CANCELLED and await noted(session.batches.redis):
            await note(session.store, batch, "cancelled")  # Redis may lose the flag
        echo(
            f'"{batch}" is {counts.flag}: {counted(counts.in_flight, "call")} in flight may '
            f"finish, {counted(counts.waiting, 'job')} not yet called will be recorded as "
            f"{counts.flag}"
        )
        # A store that is noted in Redis as the one in use is shared, whatever the settings say.
        if counts.waiting and (shared_store or await noted(session.batches.redis)):
            counts = await _write_rows(session, settings, batch)
        echo(_summary(counts))


async def _write_rows(session: Session, settings: Settings, batch: str) -> Counts:
    """Write the cancelled rows, unless a worker does; return the counts once no job waits."""
    if session.store is None:
        return await session.batches.counts(batch)
    from nightmill.maintenance.cancellation import Cancellation  # noqa: PLC0415 - needs the store

    cancellation = Cancellation(session.batches.redis, session.store, settings)
    while await cancellation.run(batch) or await _waits(session.batches, batch):  # noqa: ASYNC110
        await asyncio.sleep(LOOK_S)  # a worker is writing them
    return await session.batches.counts(batch)


async def _waits(batches: Batches, batch: str) -> bool:
    return (await batches.counts(batch)).waiting > 0


def _summary(counts: Counts) -> str:
    ended = (
        f"{counts.succeeded:,} succeeded, {counts.failed:,} failed, {counts.cancelled:,} cancelled"
    )
    if not counts.waiting:
        return f"{ended}, {counts.in_flight:,} still in flight"
    return f"{ended}; workers will record the other {counts.waiting:,}"
