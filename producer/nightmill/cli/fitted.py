"""A table that fits its terminal: cells wrap at spaces, and no word or number is cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rich.table import Table
from rich.text import Text

from nightmill.safety.visible import visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult

GAPS: Final = (2, 1)
"""Spaces between two columns, where there is enough width and where there is not."""


class FittedTable:
    """A table without lines. When it does not fit at all, each row is a paragraph instead."""

    def __init__(self, headings: Sequence[str], *, text_columns: int = 1) -> None:
        """Start an empty table; columns after the first `text_columns` are aligned right."""
        self._headings = tuple(headings)
        self._text_columns = text_columns
        self._rows: list[tuple[str, ...]] = []

    def add(self, *cells: str) -> None:
        """Add a row with one cell for each heading."""
        self._rows.append(tuple(map(visible, cells)))  # their widths are measured

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it; rich calls this with the width of the terminal."""
        for gap in GAPS:
            widths = self._widths(options.max_width - gap * (len(self._headings) - 1))
            if widths is not None:
                # rich counts a gap behind the last column, which it does not draw.
                wider = options.update(width=options.max_width + gap)
                yield from console.render(self._table(widths, gap), wider)
                return
        for first, *rest in self._rows:
            parts = (f"{name} {cell}" for name, cell in zip(self._headings[1:], rest, strict=True))
            yield Text(f"{first}: {', '.join(parts)}")

    def _table(self, widths: Sequence[int], gap: int) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
        for number, (heading, width) in enumerate(zip(self._headings, widths, strict=True)):
            justify: JustifyMethod = "left" if number < self._text_columns else "right"
            table.add_column(heading, justify=justify, width=width)
        for row in self._rows:
            table.add_row(*map(Text, row))
        return table

    def _widths(self, available: int) -> list[int] | None:
        """Return each column's width: its longest word at least, its longest cell at most.

        None when the longest words do not fit into `available`.
        """
        columns = list(zip(self._headings, *self._rows, strict=True))
        widths = [max(len(word) for cell in cells for word in cell.split()) for cells in columns]
        left = available - sum(widths)
        if left < 0:
            return None
        for number, cells in enumerate(columns):
            more = min(max(map(len, cells)) - widths[number], left)
            widths[number] += more
            left -= more
        return widths
