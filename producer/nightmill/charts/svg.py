"""The parts of an SVG text: escaped texts, lines, the frame of a chart."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from nightmill.charts.scale import at, short

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH: Final = 640
HEIGHT: Final = 190
LEFT: Final = 48
"""Room for the labels of the values."""
RIGHT: Final = 12
TOP: Final = 26
"""Room for the keys of the series, or of the marks."""
BOTTOM: Final = 22
"""Room for the labels under the chart."""


def text(x: float, y: float, content: str, kind: str = "") -> str:
    """Return a text at a place; `kind` is a class."""
    return f'<text class="{kind}" x="{at(x)}" y="{at(y)}">{safe(content)}</text>'


def straight(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Return a straight line."""
    return f'<line class="{kind}" x1="{at(x1)}" y1="{at(y1)}" x2="{at(x2)}" y2="{at(y2)}"/>'


def safe(content: str) -> str:
    """Return a text escaped for SVG and HTML; what XML does not allow is left out."""
    return escape("".join(c for c in content if c >= " " and not "\ud800" <= c <= "\udfff"))


def drawing(title: str, about: str, parts: Iterable[str], height: int = HEIGHT) -> str:
    """Return the `<svg>` element of a chart. `about` says in words what it shows."""
    return (
        f'<svg class="chart" role="img" viewBox="0 0 {WIDTH} {height}" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{safe(title)}</title>'
        f"<desc>{safe(about)}</desc>{''.join(parts)}</svg>"
    )


def empty(title: str) -> str:
    """Return a chart without data."""
    words = text(WIDTH / 2, HEIGHT / 2, "no data", "middle")
    return drawing(title, f"{title}: no data", [words])


def values_axis(values: Sequence[float], unit: str) -> list[str]:
    """Return the horizontal lines of a chart at `values`, from 0 on, and their labels."""
    parts = []
    for value in values:
        y = height_of(value, values[-1])
        parts.append(straight(LEFT, y, WIDTH - RIGHT, y, "grid"))
        parts.append(text(LEFT - 6, y + 4, f"{short(value)}{unit}", "end"))
    return parts


def height_of(value: float, highest: float) -> float:
    """Return the y of a value in a chart from 0 to `highest`."""
    share = min(max(value / highest, 0.0), 1.0)
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
