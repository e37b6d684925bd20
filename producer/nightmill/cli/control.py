"""`nightmill pause` and `nightmill resume`: hold a batch; let a batch or what is stopped go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nightmill.cli import options
from nightmill.cli.terminal import echo

if TYPE_CHECKING:
    from nightmill.queue.batches import Batches
    from nightmill.settings import Settings


def pause(
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="The batch to pause.")],
    *,
    redis_url: options.RedisUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Claim no more jobs of a batch; calls in flight finish.

    For example:

    nightmill pause prompts
    """
    _with_batches(redis_url, data_dir, lambda batches: _pause(batches, batch))


def resume(
    batch: Annotated[
        str | None,
        typer.Argument(
            metavar="[BATCH]", help="A paused batch; none: all stopped accounts and lanes."
        ),
    ] = None,
    *,
    redis_url: options.RedisUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Let a paused batch go on, or try a stopped account again.

    Without BATCH, each stopped account (endpoint and credential) and each stopped lane (one model
    of an account) may send one job as a trial. The answer to it decides whether it goes on. A
    batch that was cancelled, or whose deadline has passed, is not resumed: `nightmill adjust
    --expires` gives an expired one more time.

    For example:

    nightmill resume prompts

    nightmill resume
    """
    _with_batches(redis_url, data_dir, lambda batches: _resume(batches, batch))


def _with_batches(
    redis_url: str | None, data_dir: Path | None, work: Callable[[Batches], Awaitable[str]]
) -> None:
    """Connect to Redis, do `work` and print the line that it returns."""
    from nightmill.cli.session import open_batches  # noqa: PLC0415 - `--help` stays fast
    from nightmill.queue.locate import with_redis  # noqa: PLC0415
    from nightmill.settings import load_settings  # noqa: PLC0415

    async def run(settings: Settings) -> str:
        async with open_batches(settings) as batches:
            return await work(batches)

    with with_redis(load_settings(redis_url=redis_url, data_dir=data_dir)) as settings:
        echo(asyncio.run(run(settings)))


async def _pause(batches: Batches, batch: str) -> str:
    await batches.require(batch)
    await batches.pause(batch, "by nightmill pause")
    return f'"{batch}" is paused: nightmill resume {batch} lets it go on'


async def _resumed(batches: Batches, batch: str) -> str:
    """Return whether the batch has jobs to run, and whether a worker runs them."""
    from nightmill.reports.labels import NO_WORKER  # noqa: PLC0415
    from nightmill.reports.progress import counted  # noqa: PLC0415

    counts = await batches.counts(batch)
    if counts.drained:
        gap = f", but it {counts.gap}" if counts.gap else ""
        stored = f"{counted(counts.terminal, 'job')} of it are stored"
        return f'"{batch}" has nothing left to run: {stored}{gap}'
    idle = await batches.lacks_worker(batch)
    return f'"{batch}" goes on' + (f" once a worker runs; {NO_WORKER}" if idle else "")


async def _resume(batches: Batches, batch: str | None) -> str:
    from nightmill.reports.progress import counted  # noqa: PLC0415 - `--help` stays fast

    if batch is not None:
        await batches.require(batch)
        await batches.resume(batch)
        return await _resumed(batches, batch)
    accounts, lanes = await batches.try_all_again()
    parts = [
        counted(number, f"stopped {noun}")
        for number, noun in ((accounts, "account"), (lanes, "lane"))
        if number
    ]
    if not parts:
        return "no account and no lane is stopped: there is nothing to resume"
    each = " each" if accounts + lanes > 1 else ""
    return f"{' and '.join(parts)} may send one job{each} as a trial"
