"""`nightmill pause` and `nightmill resume`: hold a batch, or let it, or a stopped line, go on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nightmill.cli import options

if TYPE_CHECKING:
    from nightmill.queue.batches import Batches
    from nightmill.settings import Settings


def pause(
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="The batch to hold.")],
    *,
    redis_url: options.RedisUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Claim no more jobs of a batch from now on; calls under way finish.

    For example:

    nightmill pause prompts
    """
    _with_batches(redis_url, data_dir, lambda batches: _pause(batches, batch))


def resume(
    batch: Annotated[
        str | None, typer.Argument(metavar="[BATCH]", help="A paused batch; none: stopped lines.")
    ] = None,
    *,
    redis_url: options.RedisUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Let a paused batch go on, or let every stopped line send one job as a trial.

    For example:

    nightmill resume prompts

    nightmill resume
    """
    _with_batches(redis_url, data_dir, lambda batches: _resume(batches, batch))


def _with_batches(
    redis_url: str | None, data_dir: Path | None, work: Callable[[Batches], Awaitable[str]]
) -> None:
    from nightmill.cli.session import open_batches  # noqa: PLC0415 - `--help` stays fast
    from nightmill.queue.locate import with_redis  # noqa: PLC0415
    from nightmill.settings import load_settings  # noqa: PLC0415

    async def run(settings: Settings) -> str:
        async with open_batches(settings) as batches:
            return await work(batches)

    with with_redis(load_settings(redis_url=redis_url, data_dir=data_dir)) as settings:
        typer.echo(asyncio.run(run(settings)))


async def _pause(batches: Batches, batch: str) -> str:
    await batches.require(batch)
    await batches.pause(batch, "by nightmill pause")
    return f'"{batch}" is paused: nightmill resume {batch} lets it go on'


async def _resume(batches: Batches, batch: str | None) -> str:
    if batch is not None:
        await batches.require(batch)
        await batches.resume(batch)
        return f'"{batch}" goes on'
    stopped = [
        name for name, line in (await batches.accounts()).items() if line["state"] == "stopped"
    ]
    for name in stopped:
        await batches.try_account_again(name)
    return f"{len(stopped)} stopped lines may send one job each as a trial"
