"""The charts of the fleet and of one lane, from their histories. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nightmill.charts import Series
from nightmill.records.limits import NANO
from nightmill.reports.lanes import MINUTE_S, UNITS
from nightmill_gateway.console.charts import Gain, Period, chart, stepped

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from markupsafe import Markup

    from nightmill.reports.history import Interval, LaneHistory
    from nightmill.reports.lanes import Look

DIMENSIONS: Final = tuple(UNITS)
HOUR_S: Final = 3600
LANES: Final = 4
"""Lanes in one chart: those with the most calls."""


def of_fleet(
    intervals: Sequence[Interval], lanes: Sequence[LaneHistory], period: Period
) -> list[Markup]:
    """Return the charts of the first page; those of lanes only when there are some."""

    def rates(name: str, field: str, per_s: float = MINUTE_S, unit: float = 1) -> Series:
        gains = ((each.now.at, each.seconds, each.gained(field) / unit) for each in intervals)
        return Series(name=name, points=_merged(gains, period, per_s))

    dollars = rates("cost", "nanodollars", HOUR_S, NANO)
    per_minute = {
        "throughput": ("Jobs that ended", "jobs a minute", ("succeeded", "failed")),
        "refusals": ("Refused (429)", "calls a minute", ("refused",)),
        "tokens": ("Tokens", "a minute", ("input_tokens", "output_tokens")),
    }
    made = [
        chart(name, (title, unit), period, [rates(each.replace("_", " "), each) for each in fields])
        for name, (title, unit, fields) in per_minute.items()
    ]
    made.append(chart("cost", ("Cost", "US dollars an hour"), period, [dollars]))
    if lanes:
        busiest = sorted(lanes, key=lambda lane: -lane.looks[-1].now.hot.sent)[:LANES]
        made[1:1] = [_windows(lanes, period), _limits(busiest, period)]
    return made


def _merged(gains: Iterable[Gain], period: Period, per_s: float) -> list[tuple[float, float]]:
    """Return the rate over all batches: their gains are added, their time is not."""
    by_time: dict[float, tuple[float, float]] = {}
    for at, seconds, gained in gains:
        before = by_time.get(at, (0.0, 0.0))
        by_time[at] = max(before[0], seconds), before[1] + gained
    return stepped(((at, s, gained) for at, (s, gained) in by_time.items()), period, per_s)


def _windows(lanes: Sequence[LaneHistory], period: Period) -> Markup:
    """Return calls in flight, of all lanes together, against their windows."""

    def summed(values: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
        sums: dict[float, float] = {}
        for at, value in values:
            sums[at] = sums.get(at, 0.0) + value
        return sums_of(sums)

    def sums_of(sums: dict[float, float]) -> list[tuple[float, float]]:
        return stepped(((at, 1.0, value) for at, value in sums.items()), period)

    looks = [look for lane in lanes for look in lane.looks]
    calls = summed((look.now.at, look.now.in_flight) for look in looks)
    window = summed((look.now.at, look.now.orders.window) for look in looks)
    series = [Series(name="in flight", points=calls), _bound("window", window)]
    return chart("calls", ("Calls in flight", "calls"), period, series)


def _limits(lanes: Sequence[LaneHistory], period: Period) -> Markup:
    """Return the share of the most used limit of each lane."""
    series = [
        Series(name=lane.looks[-1].now.name, points=_shares(lane.looks, period)) for lane in lanes
    ]
    return chart("limits", ("Limit in use", "% of the limit"), period, series, highest=100)


def _shares(looks: Iterable[Look], period: Period) -> list[tuple[float, float]]:
    gains = [
        (look.now.at, look.seconds, 100 * look.seconds * max(shares))
        for look in looks
        if (shares := [used for each in DIMENSIONS if (used := look.used(each)) is not None])
    ]
    return stepped(gains, period)


def of_lane(name: str, lane: LaneHistory, period: Period) -> list[Markup]:
    """Return the charts of one lane; `name` begins their ids on the page."""
    looks = lane.looks
    calls = stepped(((look.now.at, 1.0, float(look.now.in_flight)) for look in looks), period)
    window = stepped(((look.now.at, 1.0, float(look.now.orders.window)) for look in looks), period)
    series = [Series(name="in flight", points=calls), _bound("window", window)]
    made = [chart(f"{name}-window", ("Window", "calls"), period, series)]
    for dimension in DIMENSIONS:
        used = stepped(
            ((look.now.at, look.seconds, look.rate(dimension) * look.seconds) for look in looks),
            period,
        )
        limit = stepped(
            ((look.now.at, 1.0, most) for look in looks if (most := look.now.limit(dimension))),
            period,
        )
        lines = [Series(name="used", points=used), *([_bound("limit", limit)] if limit else [])]
        title = UNITS[dimension].capitalize()
        made.append(chart(f"{name}-{dimension}", (title, "a minute"), period, lines))
    return made


def _bound(name: str, points: list[tuple[float, float]]) -> Series:
    return Series(name=name, points=points, dashed=True)
