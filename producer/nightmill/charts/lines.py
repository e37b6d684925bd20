"""Values over time as lines, with gaps where nothing is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nightmill.charts import svg
from nightmill.charts.scale import LATEST_S, at, known, short, ticks, time_ticks

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

COLOURS: Final = 4
"""Classes series-1 to series-4; a fifth series has the first one's colour."""
_KEY_WIDTH: Final = 18
_LETTER: Final = 8.5
"""About the width of a letter, where a page for a phone makes them larger."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line: moments in epoch seconds with their values; None is a gap."""

    name: str
    points: Sequence[tuple[float, float | None]]
    dashed: bool = False
    """For a limit, which other lines are compared with."""


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    unit: str = "",
    gap_s: float | None = None,
    highest: float = 0.0,
) -> str:
    """Return a chart of values over time, from 0 up; times are shown in UTC.

    `unit` stands behind each value of the axis. Two points that are more than `gap_s` seconds apart
    are not joined. The axis reaches `highest` at least.
    """
    lines = [(each, _kept(each.points)) for each in series]
    moments = [when for _, points in lines for when, _ in points]
    values = [value for _, points in lines for _, value in points if value is not None]
    if not values:
        return svg.empty(title)
    since, until = min(moments), max(moments)
    axis = ticks(max(*values, highest, 0.0))
    parts = svg.values_axis(axis, unit)
    parts += _times(since, until)
    for number, (each, points) in enumerate(lines):
        kind = f"line series-{number % COLOURS + 1}{' dashed' if each.dashed else ''}"
        path = "".join(_runs(points, since, until, axis[-1], gap_s))
        if path:
            parts.append(f'<path class="{kind}" fill="none" d="{path}"/>')
    parts += _keys(series)
    return svg.drawing(
        title, "; ".join(_words(each, points, unit) for each, points in lines), parts
    )


def _kept(points: Iterable[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    """Return the points that can be shown, in the order of time, at most about two a pixel."""
    moments = [(when, known(value)) for when, value in points if 0 <= when <= LATEST_S]
    found = sorted(moments, key=lambda point: point[0])
    most = svg.WIDTH
    if len(found) <= 2 * most:
        return found
    size = -(-len(found) // most)
    some: list[tuple[float, float | None]] = []
    for first in range(0, len(found), size):
        group = found[first : first + size]
        real = [(value, when) for when, value in group if value is not None]
        if len(real) < len(group):
            some.append((group[0][0], None))
        ends = {min(real)[::-1], max(real)[::-1]} if real else set()
        some += sorted(ends)
    return some


def _runs(
    points: Iterable[tuple[float, float | None]],
    since: float,
    until: float,
    highest: float,
    gap_s: float | None,
) -> Iterable[str]:
    """Yield the parts of a path. A point between two gaps is a dot."""
    width = svg.WIDTH - svg.LEFT - svg.RIGHT
    before: float | None = None
    for when, value in points:
        if value is None:
            before = None
            continue
        share = (when - since) / (until - since) if until > since else 0.5
        place = f"{at(svg.LEFT + share * width)} {at(svg.height_of(value, highest))}"
        joined = before is not None and (gap_s is None or when - before <= gap_s)
        yield f"L{place}" if joined else f"M{place}h0"
        before = when


def _times(since: float, until: float) -> list[str]:
    """Return the labels of the time."""
    width, y = svg.WIDTH - svg.LEFT - svg.RIGHT, svg.HEIGHT - 6
    span = until - since
    places = [
        (svg.LEFT + (when - since) / span * width if span else svg.WIDTH / 2, name)
        for when, name in time_ticks(since, until)
    ]
    return [
        svg.text(svg.WIDTH, y, name, "end")  # centred, the last one would be cut off
        if x + _LETTER * len(name) / 2 > svg.WIDTH
        else svg.text(x, y, name, "middle")
        for x, name in places
    ]


def _keys(series: Sequence[Series]) -> list[str]:
    """Return the names of the series with a piece of their line, while there is room."""
    parts, x = [], float(svg.LEFT)
    for number, each in enumerate(series):
        end = x + _KEY_WIDTH + 6 + _LETTER * len(each.name)
        if end > svg.WIDTH:
            break
        kind = f"key series-{number % COLOURS + 1}{' dashed' if each.dashed else ''}"
        parts.append(svg.straight(x, 10, x + _KEY_WIDTH, 10, kind))
        parts.append(svg.text(x + _KEY_WIDTH + 5, 14, each.name))
        x = end + 14
    return parts


def _words(series: Series, points: Sequence[tuple[float, float | None]], unit: str) -> str:
    """Return what a person who cannot see the chart should hear."""
    values = [value for _, value in points if value is not None]
    if not values:
        return f"{series.name}: no data"
    mean = sum(values) / len(values)
    return (
        f"{series.name}: mean {short(mean)}{unit}, highest {short(max(values))}{unit}, "
        f"last {short(values[-1])}{unit}"
    )
