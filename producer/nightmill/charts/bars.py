"""A distribution as bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nightmill.charts import svg
from nightmill.charts.scale import at, short, ticks

if TYPE_CHECKING:
    from collections.abc import Sequence

_LABELS: Final = 8
"""Most labels under the bars."""
_LETTER: Final = 9.5
"""About the width of a letter, where a page for a phone makes them larger."""
_APART: Final = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """One bar: how many values are at least `low` and less than `high`."""

    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A vertical line at a value, such as the median."""

    name: str
    value: float


def histogram(
    bins: Sequence[Bin], *, title: str, unit: str = "", marks: Sequence[Mark] = ()
) -> str:
    """Return a chart with one bar of the same width for each of `bins`, in their order.

    `unit` stands behind each value under the bars. A mark stands within the bar of its value.
    """
    if not any(each.count for each in bins):
        return svg.empty(title)
    axis = ticks(max(each.count for each in bins))
    width = (svg.WIDTH - svg.LEFT - svg.RIGHT) / len(bins)
    base = svg.HEIGHT - svg.BOTTOM
    parts = svg.values_axis(axis, "")
    for number, each in enumerate(bins):
        x, y = svg.LEFT + number * width, svg.height_of(each.count, axis[-1])
        words = f"{short(each.low)}{unit} to {short(each.high)}{unit}: {each.count:,}"
        parts.append(
            f'<rect class="bar" x="{at(x + 0.5)}" y="{at(y)}" width="{at(max(width - 1, 0.5))}" '
            f'height="{at(base - y)}"><title>{svg.safe(words)}</title></rect>'
        )
    parts += _labels(bins, width, unit)
    parts += _marks(bins, marks, width)
    total = sum(each.count for each in bins)
    named = ", ".join(f"{mark.name} {short(mark.value)}{unit}" for mark in marks)
    return svg.drawing(title, f"{total:,} values{': ' if named else ''}{named}", parts)


def _labels(bins: Sequence[Bin], width: float, unit: str) -> list[str]:
    step = -(-len(bins) // _LABELS)
    return [
        svg.text(svg.LEFT + n * width, svg.HEIGHT - 6, f"{short(bins[n].low)}{unit}", "middle")
        for n in range(0, len(bins), step)
    ]


def _marks(bins: Sequence[Bin], marks: Sequence[Mark], width: float) -> list[str]:
    parts, taken = [], 0.0
    room = sum(_LETTER * len(mark.name) + _APART for mark in marks)
    for mark in sorted(marks, key=lambda each: each.value):
        place = _place(bins, mark.value)
        if place is None:
            continue
        x = svg.LEFT + place * width
        parts.append(svg.straight(x, svg.TOP, x, svg.HEIGHT - svg.BOTTOM, "mark"))
        # Two names do not stand on each other, and none is cut at the edge.
        start = max(min(x, svg.WIDTH - room), taken)
        parts.append(svg.text(start, svg.TOP - 6, mark.name, "mark-label"))
        wide = _LETTER * len(mark.name) + _APART
        taken, room = start + wide, room - wide
    return parts


def _place(bins: Sequence[Bin], value: float) -> float | None:
    """Return where a value is, in bars from the left; None: in none of them."""
    for number, each in enumerate(bins):
        if each.low <= value <= each.high:
            span = each.high - each.low
            return number + ((value - each.low) / span if span else 0.5)
    return None
