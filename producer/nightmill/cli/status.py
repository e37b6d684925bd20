"""`nightmill status`: how many jobs of each batch are in each state."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from nightmill.cli import options

if TYPE_CHECKING:
    from nightmill.settings import Settings

REFRESH_S = 1.0


def status(
    batch: Annotated[
        str | None,
        typer.Argument(metavar="[BATCH]", help="A batch; none: all batches and the single jobs."),
    ] = None,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Refresh every second until all batches are done.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object; with --watch, one a line.")
    ] = False,
    redis_url: options.RedisUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Show how many jobs of each batch are in each state.

    Also shows tokens, cost, the used share of the rate limit, and why a batch does not go on.
    With --watch on a terminal: batches that run first, each with a bar; what limits the lanes now,
    with the calls of the last 10 minutes; the newest failures. Ctrl-C ends the watch only.

    For example:

    nightmill status

    nightmill status --watch

    nightmill status prompts --watch

    nightmill status prompts --json
    """
    from nightmill.queue.locate import with_redis  # noqa: PLC0415 - `--help` stays fast
    from nightmill.settings import load_settings  # noqa: PLC0415

    with with_redis(load_settings(redis_url=redis_url, data_dir=data_dir)) as settings:
        asyncio.run(_status(settings, batch, watch=watch, json=json))


async def _status(settings: Settings, batch: str | None, *, watch: bool, json: bool) -> None:
    from nightmill.cli.session import open_batches  # noqa: PLC0415
    from nightmill.cli.table import opened_view  # noqa: PLC0415
    from nightmill.client.corrected import Corrections  # noqa: PLC0415
    from nightmill.reports.view import look  # noqa: PLC0415

    async with open_batches(settings) as batches:
        corrections = Corrections(batches, settings, lenient=True)
        if watch and not json and _can_redraw():
            from nightmill.cli.watch import Watch  # noqa: PLC0415

            await Watch(batches, settings, corrections).run(batch)
            return
        with opened_view(watch=watch, json=json) as show:
            while True:
                view = await look(batches, batch, corrections)
                show(view)
                if not watch or view.done:
                    return
                await asyncio.sleep(REFRESH_S)


def _can_redraw() -> bool:
    from nightmill.cli.redrawn import can_redraw  # noqa: PLC0415

    return can_redraw(sys.stdout)
