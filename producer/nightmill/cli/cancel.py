"""`nightmill cancel`: end a batch; what was not called becomes cancelled rows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from nightmill.cli import options

if TYPE_CHECKING:
    from nightmill.cli.session import Session
    from nightmill.queue.batches import Batches
    from nightmill.records.counts import Counts
    from nightmill.settings import Settings

LOOK_S = 0.2


def cancel(
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="The batch to end.")],
    *,
    redis_url: options.RedisUrl = None,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """End a batch at once: calls under way finish, the rest becomes `cancelled` rows uncalled.

    The rows are written here when this machine's store is the one in use (no --redis-url, or a
    --store-url with it), else by the workers. Lines that were not fed yet never will be.

    For example:

    nightmill cancel prompts
    """
    from nightmill.queue.locate import with_redis  # noqa: PLC0415 - `--help` stays fast
    from nightmill.settings import load_settings  # noqa: PLC0415

    loaded = load_settings(redis_url=redis_url, store_url=store_url, data_dir=data_dir)
    # With a Redis from elsewhere and no store named, the workers' store is not known here.
    ours = loaded.redis_url is None or loaded.store_url is not None
    with with_redis(loaded) as settings:
        asyncio.run(_cancel(settings, batch, ours=ours))


async def _cancel(settings: Settings, batch: str, *, ours: bool) -> None:
    from nightmill.cli.session import open_session  # noqa: PLC0415

    async with open_session(settings) as session:
        await session.batches.require(batch)
        await session.batches.cancel(batch)
        counts = await session.batches.counts(batch)
        typer.echo(
            f'"{batch}" is cancelled: {counts.in_flight:,} calls under way finish, '
            f"{counts.waiting:,} jobs become cancelled rows"
        )
        if counts.waiting and ours:
            counts = await _withdraw(session, settings, batch)
        typer.echo(_told(counts))


async def _withdraw(session: Session, settings: Settings, batch: str) -> Counts:
    """Write the rows, unless a worker does; return the counts once nothing waits any more."""
    if session.store is None:
        return await session.batches.counts(batch)
    from nightmill.maintenance.cancellation import Cancellation  # noqa: PLC0415 - needs the store

    cancellation = Cancellation(session.batches.redis, session.store, settings)
    while await cancellation.run(batch) or await _waits(session.batches, batch):  # noqa: ASYNC110
        await asyncio.sleep(LOOK_S)  # a worker is at it
    return await session.batches.counts(batch)


async def _waits(batches: Batches, batch: str) -> bool:
    return (await batches.counts(batch)).waiting > 0


def _told(counts: Counts) -> str:
    done = (
        f"{counts.succeeded:,} succeeded, {counts.failed:,} failed, {counts.cancelled:,} cancelled"
    )
    if not counts.waiting:
        return f"{done}, {counts.in_flight:,} still in flight"
    return f"{done}; the workers write the rows of the other {counts.waiting:,}"
