"""A table that fits its terminal: headings and cells wrap at spaces, and numbers are never cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult

GAP: Final = 2
"""Spaces between two columns."""


class FittedTable:
    """A table without lines; its first column takes what width the others leave."""

    def __init__(self, headings: Sequence[str], *, text_columns: int = 1) -> None:
        """Start an empty table; columns after the first `text_columns` are aligned right."""
        self._headings = tuple(headings)
        self._text_columns = text_columns
        self._rows: list[tuple[str, ...]] = []

    def add(self, *cells: str) -> None:
        """Add a row with one cell for each heading."""
        self._rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it; rich calls this with the width that there is."""
        table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
        widths = self._widths(options.max_width)
        for number, (heading, width) in enumerate(zip(self._headings, widths, strict=True)):
            text = number < self._text_columns
            justify: JustifyMethod = "left" if text else "right"
            table.add_column(heading, justify=justify, width=width, overflow="fold")
        for row in self._rows:
            table.add_row(*map(Text, row))
        yield table

    def _widths(self, available: int) -> list[int]:
        """Return each column's width: its longest word at least, its longest cell at most."""
        columns = list(zip(self._headings, *self._rows, strict=True))
        widths = [max(len(word) for cell in cells for word in cell.split()) for cells in columns]
        left = available - GAP * len(columns) - sum(widths)
        for number, cells in enumerate(columns):
            more = min(max(map(len, cells)) - widths[number], max(0, left))
            widths[number] += more
            left -= more
        if left < 0:
            widths[0] = max(1, widths[0] + left)
        return widths
