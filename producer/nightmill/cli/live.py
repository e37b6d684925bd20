"""Progress on stderr: a line redrawn in place on a terminal, else a plain line now and then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Self

from rich import live
from rich.console import Console
from rich.text import Text

from nightmill.errors import QueueUnavailableError
from nightmill.reports.progress import Progress

if TYPE_CHECKING:
    from nightmill.queue.batches import Batches

EVERY_S: Final = 10.0
"""Between two plain lines at least, seconds."""
LOOK_S: Final = 0.5


class Live:
    """Shows one line at a time within a `with` block; the last one stays."""

    def __init__(self, console: Console | None = None, *, every_s: float = EVERY_S) -> None:
        """Draw on `console`, stderr when none is given."""
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._every_s = every_s
        self._next = 0.0
        self._said = self._last = ""
        self._drawn = live.Live(console=self._console, auto_refresh=False)

    def __enter__(self) -> Self:
        """Take the terminal's last line, if there is a terminal."""
        if self._console.is_terminal:
            self._drawn.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back; where there is none, the last state is said if it was not."""
        self._drawn.stop()
        if self._last != self._said:
            self._console.print(self._last, markup=False)

    def show(self, text: str, now: float) -> None:
        """Show `text`; `now` is the seconds of a steady clock."""
        if self._console.is_terminal:
            self._drawn.update(Text(text, no_wrap=True, overflow="ellipsis"), refresh=True)
        elif now >= self._next:
            self._next = now + self._every_s
            self._console.print(text, markup=False)
            self._said = self._last = text
        else:
            self._last = text


@asynccontextmanager
async def showing(batches: Batches, batch: str) -> AsyncIterator[None]:
    """Show how `batch` gets on for the length of a block."""
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
    """Look again and again; a Redis that is away is what there is to show then."""
    progress: Progress | None = None
    while not over.is_set():
        now = time.monotonic()
        try:
            counts, refused = await batches.counts(batch), await batches.refused()
        except QueueUnavailableError as error:
            shown.show(f"{batch}: {error}", now)
        else:
            progress = progress or Progress(counts, now, refused=refused)
            progress.add(counts, now, refused=refused)
            shown.show(f"{batch}: {progress.line()}", now)
        await asyncio.sleep(LOOK_S)
