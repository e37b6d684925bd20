"""Progress on stderr: redrawn in place on a terminal, else a plain line every 10 s."""

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
from nightmill.reports.labels import NO_WORKER
from nightmill.reports.progress import Progress, folded

if TYPE_CHECKING:
    from rich import live

    from nightmill.queue.batches import Batches

EVERY_S: Final = 10.0
"""Shortest time between two plain lines, seconds."""
LOOK_S: Final = 0.5
"""Between two looks at the counts, seconds."""


class Live:
    """Shows one line at a time within a `with` block. The last line stays when the block ends."""

    def __init__(self, *, every_s: float = EVERY_S) -> None:
        """Show on stderr; `every_s` as EVERY_S."""
        self._every_s = every_s
        self._next = 0.0
        self._printed = self._latest = ""
        self._redraws = sys.stderr.isatty()
        self._drawn: live.Live | None = None

    def __enter__(self) -> Self:
        """Show nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop to redraw. Without a terminal, print the latest line if it is not printed yet."""
        if self._drawn is not None:
            self._drawn.stop()
        if self._latest != self._printed:
            echo(self._latest, err=True)

    def show(self, text: str, now: float, *, at_once: bool = False) -> None:
        """Show `text`; `now` is seconds of a monotonic clock. `at_once` waits for no EVERY_S."""
        if self._redraws:
            self._redraw(text)
        elif now >= self._next or at_once:
            self._next = now + self._every_s
            echo(text, err=True)
            self._printed = self._latest = text
        else:
            self._latest = text

    def _redraw(self, text: str) -> None:
        """Show `text` in place of the last line of the terminal."""
        from rich import live  # noqa: PLC0415 - slow to import, and only for a terminal
        from rich.text import Text  # noqa: PLC0415

        from nightmill.cli.console import VisibleConsole  # noqa: PLC0415

        if self._drawn is None:
            console = VisibleConsole(stderr=True, soft_wrap=True)
            self._drawn = live.Live(console=console, auto_refresh=False)
            self._drawn.start()
        lines = (folded(line, self._drawn.console.width) for line in text.splitlines())
        self._drawn.update(Text("\n".join(lines), overflow="fold"), refresh=True)


@asynccontextmanager
async def showing(batches: Batches, batch: str) -> AsyncIterator[None]:
    """Show the progress of `batch` for the length of a block."""
    with Live() as shown:
        over = asyncio.Event()
        task = asyncio.create_task(_follow(batches, batch, shown, over))
        try:
            yield
        finally:
            over.set()  # before 3.12, wait_for inside redis-py may swallow a cancellation
            task.cancel()
            await asyncio.wait([task])


async def _follow(batches: Batches, batch: str, shown: Live, over: asyncio.Event) -> None:
    """Show the progress and the workers' troubles every LOOK_S; while Redis is away, that error."""
    progress: Progress | None = None
    before: list[str] = []
    while not over.is_set():
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
            lines = [f"{batch}: {progress.line()}", *troubles, *stops.shown(batch, counts)]
            text = "\n".join(lines)
            shown.show(text, now, at_once=troubles != before)
            before = troubles
        await asyncio.sleep(LOOK_S)
