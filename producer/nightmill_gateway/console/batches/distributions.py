"""Histograms of what jobs took and used. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from markupsafe import Markup

from nightmill.charts import Bin, Mark, histogram

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightmill.store.browse import Figures

BINS: Final = 20
_STEPS: Final = (1, 2, 2.5, 5, 10)


def charts(figures: Sequence[Figures]) -> list[tuple[str, Markup]]:
    """Return the title and the drawing of each distribution; none without figures."""
    called = [each for each in figures if each.call_ms > 0]
    columns: dict[str, tuple[list[float], str]] = {
        "Time in calls": ([each.call_ms / 1000 for each in called], " s"),
        "Time in the queue": ([each.queue_ms / 1000 for each in called if each.queue_ms], " s"),
        "Input tokens": ([float(each.input_tokens) for each in called], ""),
        "Output tokens": ([float(each.output_tokens) for each in called], ""),
    }
    return [
        (title, Markup(_drawn(values, title, unit)))  # noqa: S704 - a drawing of numbers, escaped
        for title, (values, unit) in columns.items()
        if values
    ]


def _drawn(values: list[float], title: str, unit: str) -> str:
    ordered = sorted(values)
    marks = [
        Mark(name=name, value=ordered[min(len(ordered) - 1, int(len(ordered) * share))])
        for name, share in (("median", 0.5), ("95 %", 0.95))
    ]
    return histogram(bins(ordered), title=title, unit=unit, marks=marks)


def bins(values: Sequence[float]) -> list[Bin]:
    """Return bars of one round width from 0 on, that have all of `values`."""
    width = _round_up(max(values) / BINS or 1.0)
    counts = [0] * (int(max(values) / width) + 1)
    for value in values:
        counts[int(value / width)] += 1
    return [
        Bin(low=number * width, high=(number + 1) * width, count=count)
        for number, count in enumerate(counts)
    ]


def _round_up(width: float) -> float:
    size = 1.0
    while size > width:
        size /= 10
    while size * 10 <= width:
        size *= 10
    return next(size * step for step in _STEPS if size * step >= width)
