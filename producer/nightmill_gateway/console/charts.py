"""Charts of pages: a title, the drawing, and its numbers as a table. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, NamedTuple

from markupsafe import Markup

from nightmill.charts import Series, line_chart
from nightmill.charts.scale import known
from nightmill.charts.scale import short as figure_of
from nightmill.safety.visible import visible
from nightmill_gateway.console.formats import NONE

_FIGURE: Final = Markup(
    '<figure class="card" id="{name}"><figcaption>{title} <small>{unit}</small></figcaption>'
    '{drawing}<details id="{name}-numbers"><summary>Numbers'
    '<span class="hidden"> of the chart {title}</span></summary>'
    '<div class="scroll" tabindex="0" role="region" aria-label="Numbers of {title}">'
    "<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div></details></figure>"
)


class Period(NamedTuple):
    """How much of the history a chart shows."""

    name: str
    title: str
    seconds: int
    step_s: int
    """Points of the history within a step become one point of the chart."""


HOUR: Final = Period("hour", "last hour", 3600, 60)
DAY: Final = Period("day", "last day", 86_400, 1_800)
PERIODS: Final = {HOUR.name: HOUR, DAY.name: DAY}

Gain = tuple[float, float, float]
"""Epoch seconds, for how many seconds, and how much in them; a gauge: 1 second, its value."""


def stepped(gains: Iterable[Gain], period: Period, per_s: float = 1.0) -> list[tuple[float, float]]:
    """Return one point for each step of a period: what was gained in `per_s` seconds, on average.

    A step without any gain is no point: nobody has measured it.
    """
    sums: dict[int, tuple[float, float]] = {}
    for at, seconds, gained in gains:
        step = int(at // period.step_s)
        before = sums.get(step, (0.0, 0.0))
        sums[step] = before[0] + seconds, before[1] + gained
    return [
        ((step + 1) * period.step_s, gained / seconds * per_s)
        for step, (seconds, gained) in sorted(sums.items())
        if seconds > 0
    ]


def chart(
    name: str,
    heading: tuple[str, str],
    period: Period,
    series: Sequence[Series],
    highest: float = 0,
) -> Markup:
    """Return the figure of lines over time; `name` is its id on the page.

    `heading` is its title, and the unit of its numbers.
    """
    title, unit = heading
    drawing = line_chart(series, title=title, gap_s=period.step_s * 1.5, highest=highest)
    values = [dict(each.points) for each in series]
    times = sorted({at for each in values for at in each})
    heads = ("time (UTC)", *(each.name for each in series))
    rows = ((clock(at), *(_number(each.get(at)) for each in values)) for at in times)
    return _FIGURE.format(
        name=name,
        title=visible(title),
        unit=unit,
        drawing=Markup(drawing),  # noqa: S704 - our own SVG, whose texts are escaped
        heads=_cells('<th scope="col">{}</th>', heads),
        rows=Markup().join(Markup("<tr>{}</tr>").format(_cells("<td>{}</td>", r)) for r in rows),
    )


def clock(epoch_s: float) -> str:
    """Return the time of day in UTC."""
    return f"{datetime.fromtimestamp(epoch_s, UTC):%H:%M}"


def _cells(form: str, texts: Iterable[str]) -> Markup:
    return Markup().join(Markup(form).format(visible(text)) for text in texts)  # noqa: S704


def _number(value: float | None) -> str:
    shown = known(value)
    return NONE if shown is None else figure_of(shown)
