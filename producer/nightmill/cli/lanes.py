"""`nightmill lanes`: what each lane does, and one sentence about what limits it."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nightmill.cli import options
from nightmill.cli.options import WIDE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from nightmill.reports.lanes import Lane, Look
    from nightmill.settings import Settings

LOOK_S: Final = 1.0
"""Time over which rates and shares are measured, seconds."""
DIMENSIONS: Final = ("requests", "input", "output")


def lanes(
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every second.")] = False,
    redis_url: options.RedisUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Show the use of each lane's limits, and what limits it now.

    A lane is an account (endpoint and credential) and a model. Rates and shares are measured over
    one second; refusals (429) are counted since the lane began.

    For example:

    nightmill lanes

    nightmill lanes --watch
    """
    from nightmill.queue.locate import with_redis  # noqa: PLC0415 - `--help` stays fast
    from nightmill.settings import load_settings  # noqa: PLC0415

    with with_redis(load_settings(redis_url=redis_url, data_dir=data_dir)) as settings:
        asyncio.run(_lanes(settings, watch=watch))


async def _lanes(settings: Settings, *, watch: bool) -> None:
    from rich.live import Live  # noqa: PLC0415

    from nightmill.cli.console import VisibleConsole  # noqa: PLC0415
    from nightmill.cli.session import open_batches  # noqa: PLC0415
    from nightmill.reports.lanes import read_lanes  # noqa: PLC0415

    console = VisibleConsole(width=None if sys.stdout.isatty() else WIDE)
    async with open_batches(settings) as batches:
        before = await read_lanes(batches.redis)
        with Live(console=console, auto_refresh=False) as live:
            while True:
                await asyncio.sleep(LOOK_S)
                now = await read_lanes(batches.redis)
                live.update(_drawn(_looks(before, now)), refresh=True)
                if not watch:
                    return
                before = now


def _looks(before: Iterable[Lane], now: Iterable[Lane]) -> list[Look]:
    from nightmill.reports.lanes import Look  # noqa: PLC0415

    known = {(lane.account, lane.model): lane for lane in before}
    return [Look(before=known.get((lane.account, lane.model), lane), now=lane) for lane in now]


def _drawn(looks: list[Look]) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from nightmill.cli.fitted import FittedTable  # noqa: PLC0415
    from nightmill.reports.labels import LaneColumn  # noqa: PLC0415

    if not looks:
        return Text("no lane yet: no job was ever claimed here")
    table = FittedTable(tuple(LaneColumn), text_columns=2)
    for look in looks:
        lane = look.now
        table.add(
            _name(lane),
            look.limited_by,
            f"{lane.in_flight:,} of {lane.orders.window:,}",
            *(_use(look, dimension) for dimension in DIMENSIONS),
            f"{lane.hot.refused:,} ({lane.refused_share:.2%})",
        )
    return Group(table, *(Text(f"{_name(look.now)}: {look.why}") for look in looks))


def _name(lane: Lane) -> str:
    return f"{lane.model} {lane.account[:6]}"


def _use(look: Look, dimension: str) -> str:
    """Return the rate of a dimension and, where it is known, its limit and the share in use."""
    limit, used = look.now.limit(dimension), look.used(dimension)
    rate = f"{look.rate(dimension):,.0f}"
    return rate if limit is None else f"{rate} of {limit:,.0f} ({used:.0%})"
