"""What a batch did over time, as charts. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightmill.charts import Series, line_chart
from nightmill.reports.html import Html, paragraph, tag, text
from nightmill.reports.progress import duration

if TYPE_CHECKING:
    from nightmill.reports.report import Report

_MINUTE_S = 60


def over_time(report: Report) -> Html:
    """Return the throughput and the used share of the limit over time."""
    sums = report.sums
    first, last = min(sums.ended, default=0), max(sums.ended, default=0)
    middle = sums.step_s / 2
    steps = range(first, last + 1)
    minutes = sums.step_s / _MINUTE_S
    jobs = [(s * sums.step_s + middle, sums.ended[s] / minutes) for s in steps]
    tokens = [(s * sums.step_s + middle, sums.tokens[s] / minutes) for s in steps]
    each = f"Each point is {duration(sums.step_s)}. Times are UTC."
    parts = [
        tag("h2", text("Over time")),
        paragraph(each, "soft"),
        tag("h3", text("Jobs that ended, a minute")),
        line_chart([Series(name="jobs a minute", points=jobs)], title="Jobs that ended, a minute"),
        tag("h3", text("Output tokens, a minute")),
        line_chart(
            [Series(name="output tokens a minute", points=tokens)], title="Output tokens, a minute"
        ),
        tag("h3", text("Used share of the rate limit, while jobs waited")),
        _limit_used(report),
    ]
    return Html("".join(parts))


def _limit_used(report: Report) -> Html:
    history = report.history
    intervals = history.batches.get(report.batch, ()) if history else ()
    if not history or not any(each.utilisation is not None for each in intervals):
        why = (
            "Not known over time: it comes from the history in Redis, which keeps one day. "
            "Measured: only while jobs waited for a limit."
        )
        return paragraph(why)
    points = [
        (each.now.at, None if each.utilisation is None else each.utilisation * 100)
        for each in intervals
    ]
    return Html(
        line_chart(
            [Series(name="used share of the limit", points=points)],
            title="Used share of the rate limit",
            unit="%",
            gap_s=3 * history.step_s,
            highest=100,
        )
    )
