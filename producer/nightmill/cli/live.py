"""Progress on stderr: a panel that is redrawn on a terminal, else a plain line every 10 s."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Self

from nightmill.cli.terminal import echo
from nightmill.errors import QueueUnavailableError
from nightmill.queue.crashes import read_troubles
from nightmill.queue.stops import read_stops
from nightmill.reports.around import Around
from nightmill.reports.labels import NO_WORKER
from nightmill.reports.panel import Panel, panel_of
from nightmill.reports.progress import Progress

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nightmill.cli.redrawn import Redrawn
    from nightmill.queue.batches import Batches
    from nightmill.settings import Settings

EVERY_S: Final = 10.0
"""Shortest time between two plain lines, seconds."""
FRAME_S: Final = 0.25
"""Shortest time between two pictures of the panel, seconds."""
LOOK_S: Final = 0.5
"""Between two looks at the counts, seconds."""


class Live:
    """Shows one panel, or one plain line, within a `with` block; the last one stays at its end."""

    def __init__(self, *, every_s: float = EVERY_S) -> None:
        """Show on stderr; `every_s` as EVERY_S."""
        self._every_s = every_s
        self._next = 0.0
        self._printed = ""
        self._latest: Panel | str = ""
        self._drawn: Redrawn | None = None
        self.redraws = sys.stderr.isatty() and _can_redraw()

    def __enter__(self) -> Self:
        """Show nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Show the latest state if it is not shown yet, and stop to redraw."""
        if self._drawn is not None:
            self._draw(self._drawn)
            self._drawn.stop()
        elif (text := _text(self._latest)) != self._printed:
            echo(text, err=True)

    def show(self, panel: Panel | str, now: float, *, at_once: bool = False) -> None:
        """Show the state at `now`, seconds of a monotonic clock; `at_once` waits for no EVERY_S.

        A text says why there is nothing else to show.
        """
        self._latest = panel
        if now < self._next and not at_once:
            return
        if self.redraws:
            self._next = now + FRAME_S
            self._draw(self._drawn or self._start())
        else:
            self._next = now + self._every_s
            self._printed = _text(panel)
            echo(self._printed, err=True)

    def _start(self) -> Redrawn:
        from nightmill.cli.redrawn import Redrawn  # noqa: PLC0415 - slow, and only for a terminal

        self._drawn = Redrawn(stderr=True)
        self._drawn.start()
        return self._drawn

    def _draw(self, drawn: Redrawn) -> None:
        from rich.text import Text  # noqa: PLC0415

        from nightmill.cli.panel import DrawnPanel  # noqa: PLC0415
        from nightmill.cli.terminal import shown  # noqa: PLC0415

        latest = self._latest
        picture = Text(shown(latest)) if isinstance(latest, str) else DrawnPanel(latest)
        drawn.update(picture, refresh=True)


def _can_redraw() -> bool:
    from nightmill.cli.redrawn import can_redraw  # noqa: PLC0415

    return can_redraw(sys.stderr)


def _text(latest: Panel | str) -> str:
    return latest if isinstance(latest, str) else latest.text


@asynccontextmanager
async def around(live: Live, redis: Redis, settings: Settings, batch: str) -> AsyncIterator[Around]:
    """Read what the panel of `batch` shows beside its counts; only where a panel is drawn."""
    beside = Around(redis, settings, batch)
    if not live.redraws:
        yield beside
        return
    task = asyncio.create_task(beside.follow())
    try:
        yield beside
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def showing(batches: Batches, batch: str, settings: Settings) -> AsyncIterator[None]:
    """Show the progress of `batch` for the length of a block."""
    with Live() as shown:
        task = asyncio.create_task(_follow(batches, batch, settings, shown))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def _follow(batches: Batches, batch: str, settings: Settings, shown: Live) -> None:
    """Show the progress and the workers' troubles every LOOK_S; while Redis is away, that error."""
    progress: Progress | None = None
    before: list[str] = []
    async with around(shown, batches.redis, settings, batch) as beside:
        while True:
            now = time.monotonic()
            try:
                counts = await batches.counts(batch)
                troubles = await read_troubles(batches.redis)
                stops = await read_stops(batches.redis, [batch])
            except QueueUnavailableError as error:
                shown.show(f"{batch}: {error}", now)
            else:
                progress = progress or Progress(counts, now)
                progress.add(counts, now)
                if stops.no_worker(batch, counts):
                    troubles = [f"waiting: {NO_WORKER}", *troubles]
                notes = (*troubles, *stops.shown(batch, counts))
                panel = beside.added(panel_of(batch, progress, notes))
                shown.show(panel, now, at_once=troubles != before)
                before = troubles
            await asyncio.sleep(LOOK_S)
