"""Markdown tables whose columns are aligned, so that they read well on a terminal too."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import starmap

import msgspec


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one scenario."""

    title: str
    what: str
    """What was measured, above the table."""
    heads: tuple[str, ...]
    """Column titles, with units."""
    rows: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        """Return Markdown: the first column is aligned left, the others right."""
        lines = [self.heads, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.heads))]
        rule = ("-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:]))
        body = [_line(line, widths) for line in (self.heads, rule, *self.rows)]
        return "\n".join([f"## {self.title}", "", self.what, "", *body, ""])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    padded = [first[0].ljust(first[1]), *starmap(str.rjust, others)]
    return f"| {' | '.join(padded)} |"


def times(value: float, base: float) -> str:
    """Return `value` as a multiple of `base`, "-" when `base` is 0."""
    return f"{value / base:.2f}" if base else "-"
