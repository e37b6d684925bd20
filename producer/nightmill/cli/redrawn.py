"""A picture that is drawn again and again in place, also while the terminal changes its width."""

from __future__ import annotations

import os
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, TextIO

from rich.control import Control
from rich.live import Live
from rich.live_render import LiveRender
from rich.segment import ControlType, Segment
from rich.text import Text

from nightmill.cli.console import VisibleConsole

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

_UP: Final = ((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2))


def can_redraw(stream: TextIO) -> bool:
    """Tell whether lines of `stream` can be drawn again: it is a terminal that moves its cursor."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in {"dumb", "unknown"}


class Redrawn(Live):
    """Draws with `update(..., refresh=True)` only: no thread, no frame that nobody asked for.

    The last picture stays when it stops, whatever ends the block.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        """Draw on stdout, or on stderr."""
        super().__init__(console=VisibleConsole(stderr=stderr), auto_refresh=False)
        self._live_render: _Reflowed = _Reflowed(Text())


class _Reflowed(LiveRender):
    """Finds the lines of the last picture again after the terminal has wrapped them anew.

    rich goes up as many lines as it drew. A narrower terminal wraps them into more lines, and
    pieces of old pictures would stay above.
    """

    def __init__(self, renderable: Text) -> None:
        super().__init__(renderable)
        self._cells: list[int] = []
        self._console: Console | None = None

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self._console = console
        drawn = super().__rich_console__(console, options)
        segments = [each for each in drawn if isinstance(each, Segment)]
        lines = Segment.split_lines(segments)
        self._cells = [Segment.get_line_length(line) for line in lines]
        yield from segments

    def position_cursor(self) -> Control:
        if self._shape is None or self._console is None:
            return Control()
        rows = _rows(self._cells, self._console.width)
        codes: Any = (*chain.from_iterable([_UP] * (rows - 1)),)
        return Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2), *codes)


def _rows(cells: list[int], width: int) -> int:
    """Return how many rows of a terminal lines of so many cells take."""
    return sum(max(1, -(-each // max(1, width))) for each in cells) or 1
