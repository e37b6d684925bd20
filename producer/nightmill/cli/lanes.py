"""`nightmill lanes`: what each lane does, and one sentence about what limits it."""

from __future__ import annotations

import asyncio
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nightmill.cli import options
from nightmill.cli.options import WIDE

if TYPE_CHECKING:
    from rich.console import RenderableType

    from nightmill.queue.batches import Batches
    from nightmill.reports.lanes import Look, Waits
    from nightmill.settings import Settings

LOOK_S: Final = 1.0
"""Time over which rates and shares are measured, seconds."""
UNUSED_S: Final = 86_400.0
"""A lane that was not used for so long is shown with --all only, seconds."""
DIMENSIONS: Final = ("requests", "input", "output")


def lanes(
    *,
    watch: Annotated[bool, typer.Option("--watch", help="Refresh every second.")] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Also lanes that were not used for a day.")
    ] = False,
    redis_url: options.RedisUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Show the use of each lane's limits, and what limits it now.

    A lane is an account (endpoint and credential) and a model. Rates and shares are measured over
    one second; refusals (429) are counted since the lane began. Also says how many workers run.

    For example:

    nightmill lanes

    nightmill lanes --watch
    """
    from nightmill.queue.locate import with_redis  # noqa: PLC0415 - `--help` stays fast
    from nightmill.settings import load_settings  # noqa: PLC0415

    with with_redis(load_settings(redis_url=redis_url, data_dir=data_dir)) as settings:
        asyncio.run(_lanes(settings, watch=watch, every=every))


async def _lanes(settings: Settings, *, watch: bool, every: bool) -> None:
    from rich.console import Group  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    from nightmill.cli.console import VisibleConsole  # noqa: PLC0415
    from nightmill.cli.session import open_batches  # noqa: PLC0415
    from nightmill.reports.labels import NO_WORKER  # noqa: PLC0415
    from nightmill.reports.lanes import looks_between, read_lanes  # noqa: PLC0415
    from nightmill.reports.progress import counted  # noqa: PLC0415

    console = VisibleConsole(width=None if sys.stdout.isatty() else WIDE)
    async with open_batches(settings) as batches:
        before = await read_lanes(batches.redis)
        with Live(console=console, auto_refresh=False) if watch else nullcontext() as live:
            while True:
                await asyncio.sleep(LOOK_S)
                now = await read_lanes(batches.redis)
                waits, workers, full = await _work(batches)
                looks = looks_between(before, now, waits=waits, workers=workers, full=full)
                line = (
                    f"{counted(workers, 'worker')} running" if workers else NO_WORKER.capitalize()
                )
                drawn = Group(_drawn(looks, every=every), line)
                if live is None:
                    console.print(drawn)
                    return
                live.update(drawn, refresh=True)
                before = now


async def _work(batches: Batches) -> tuple[Waits, int, int]:
    """Return what waits, how many workers run, and how many jobs they have when they are full."""
    from nightmill.queue.connection import redis_errors  # noqa: PLC0415
    from nightmill.queue.keys import SINGLES  # noqa: PLC0415
    from nightmill.queue.live_workers import read_full  # noqa: PLC0415
    from nightmill.queue.stops import read_stops  # noqa: PLC0415
    from nightmill.reports.lanes import waits_of  # noqa: PLC0415

    counts = [*(await batches.all()).values(), await batches.counts(SINGLES)]
    workers = (await read_stops(batches.redis, [])).workers
    with redis_errors():
        full = await read_full(batches.redis, workers)
    return waits_of(counts), len(workers), full


def _drawn(looks: list[Look], *, every: bool) -> RenderableType:
    from rich.console import Group  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from nightmill.cli.fitted import FittedTable  # noqa: PLC0415
    from nightmill.reports.labels import LaneColumn  # noqa: PLC0415
    from nightmill.reports.progress import counted  # noqa: PLC0415

    if not looks:
        return Text("no lane yet: no job was ever claimed here")
    used = [look for look in looks if every or look.now.idle_s < UNUSED_S]
    left_out = len(looks) - len(used)
    more = [Text(f"{counted(left_out, 'lane')} unused for a day: nightmill lanes --all")]
    table = FittedTable(tuple(LaneColumn), text_columns=2, main=len(LaneColumn) - len(DIMENSIONS))
    for look in used:
        lane = look.now
        table.add(
            lane.name,
            "-" if look.limited_by == "nothing" else look.limited_by,
            f"{lane.in_flight:,} of {lane.orders.window:,}",
            f"{lane.hot.refused:,} ({lane.refused_share:.2%})",
            *(_use(look, dimension) for dimension in DIMENSIONS),
        )
    why = (Text(f"{look.now.name}: {look.why}") for look in used)
    return Group(*([table] if used else ()), *why, *(more if left_out else ()))


def _use(look: Look, dimension: str) -> str:
    """Return the rate of a dimension and, where it is known, its limit and the share in use."""
    limit, used = look.now.limit(dimension), look.used(dimension)
    rate = f"{look.rate(dimension):,.0f}"
    return rate if limit is None else f"{rate} of {limit:,.0f} ({used:.0%})"
