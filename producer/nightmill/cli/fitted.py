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

    def __init__(
        self, headings: Sequence[str], *, text_columns: int = 1, main: int | None = None
    ) -> None:
        """Start an empty table; columns after the first `text_columns` are aligned right.

        Where some cells would be wrapped, columns after the first `main` are a table of their own,
        which begins with the first column.
        """
        self._headings = tuple(headings)
        self._text_columns = text_columns
        self._main = len(self._headings) if main is None else main
        self._rows: list[tuple[str, ...]] = []

    def add(self, *cells: str) -> None:
        """Add a row with one cell for each heading."""
        self._rows.append(tuple(map(visible, cells)))  # their widths are measured

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it; rich calls this with the width of the terminal."""
        columns = list(zip(self._headings, *self._rows, strict=True))
        needed = sum(max(map(len, cells)) + GAPS[0] for cells in columns) - GAPS[0]
        if self._main < len(columns) and needed > options.max_width:
            yield self._of(self._headings[: self._main], slice(self._main))
            yield Text()
            first, rest = self._headings[0], self._headings[self._main :]
            yield self._of((first, *rest), slice(self._main, None), beside_first=True)
            return
        fitting = {
            gap: widths
            for gap in GAPS
            if (widths := self._widths(options.max_width - gap * (len(self._headings) - 1)))
        }
        # The wider gap, unless only the narrower one leaves the cells whole.
        whole = [gap for gap, widths in fitting.items() if self._leaves_whole(widths)]
        for gap in [*whole, *fitting][:1]:
            # rich counts a gap behind the last column, which it does not draw.
            wider = options.update(width=options.max_width + gap)
            yield from console.render(self._table(fitting[gap], gap), wider)
            return
        for name, *cells in self._rows:
            parts = map(" ".join, zip(self._headings[1:], cells, strict=True))
            yield Text(f"{name}: {', '.join(parts)}")

    def _of(
        self, headings: Sequence[str], columns: slice, *, beside_first: bool = False
    ) -> FittedTable:
        """Return a table of some columns, with the first one in front when `beside_first`."""
        table = FittedTable(headings, text_columns=1 if beside_first else self._text_columns)
        for row in self._rows:
            table.add(*(row[:1] if beside_first else ()), *row[columns])
        return table

    def _table(self, widths: Sequence[int], gap: int) -> Table:
        table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="bold")
        for number, (heading, width) in enumerate(zip(self._headings, widths, strict=True)):
            justify: JustifyMethod = "left" if number < self._text_columns else "right"
            table.add_column(heading, justify=justify, width=width)
        for row in self._rows:
            table.add_row(*map(Text, row))
        return table

    def _leaves_whole(self, widths: Sequence[int]) -> bool:
        """Tell whether no cell is wrapped; headings may be."""
        return all(
            len(cell) <= width
            for row in self._rows
            for cell, width in zip(row, widths, strict=True)
        )

    def _widths(self, available: int) -> list[int] | None:
        """Return each column's width: its longest word at least, its longest cell at most.

        Cells get what is left before headings do.

        None when the longest words do not fit into `available`.
        """
        columns = list(zip(self._headings, *self._rows, strict=True))
        widths = [max(len(word) for cell in cells for word in cell.split()) for cells in columns]
        left = available - sum(widths)
        if left < 0:
            return None
        for start in (1, 0):  # without the headings first
            for number, cells in enumerate(columns):
                longest = max(map(len, cells[start:]), default=0)
                more = max(0, min(longest - widths[number], left))
                widths[number] += more
                left -= more
        return widths
