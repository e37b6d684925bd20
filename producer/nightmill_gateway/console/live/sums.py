"""Sums over batches: of all their time from their counts, of an hour or a day from the history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nightmill.records.limits import NANO
from nightmill_gateway.access.caller import ALL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from nightmill.records.counts import Counts
    from nightmill.reports.history import History, Interval


class Sums(msgspec.Struct, frozen=True, kw_only=True):
    """What batches did, in all or in a time."""

    ended: int = 0
    succeeded: int = 0
    failed: int = 0
    refused: int = 0
    """Calls that were answered 429."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = 0.0
    """US dollars; None when a job of a model without a known price ended."""
    wasted: float = 0.0
    """Of the cost, what bought no result, US dollars."""


def of_counts(counts: Iterable[Counts]) -> Sums:
    """Return the sums since the batches began."""
    some = list(counts)
    costs = [each.cost for each in some]
    return Sums(
        ended=sum(each.terminal for each in some),
        succeeded=sum(each.succeeded for each in some),
        failed=sum(each.failed for each in some),
        refused=sum(each.refused for each in some),
        input_tokens=sum(each.input_tokens for each in some),
        output_tokens=sum(each.output_tokens for each in some),
        cost=None if None in costs else sum(cost or 0.0 for cost in costs),
        wasted=sum(sum(each.wasted.values()) for each in some) / NANO,
    )


def day_of(hour: History, day: History, tenant: str) -> list[Interval]:
    """Return the intervals of a day, with those of the hour where its own points do not reach yet.

    A day has a point every 120 s: alone it would have less than the hour at its beginning and end.
    """
    pairs = [(hour.fleet, day.fleet)]
    if tenant != ALL:
        names = {**hour.batches, **day.batches}
        pairs = [(hour.batches.get(name, ()), day.batches.get(name, ())) for name in names]
    return [each for fine, coarse in pairs for each in (*coarse, *_beside(fine, coarse))]


def _beside(fine: Sequence[Interval], coarse: Sequence[Interval]) -> Iterator[Interval]:
    for each in fine:
        if not coarse or each.now.at <= coarse[0].before.at or each.before.at >= coarse[-1].now.at:
            yield each


def of_intervals(intervals: Sequence[Interval]) -> Sums:
    """Return the sums over stretches of time."""
    costs = [each.cost for each in intervals]

    def total(name: str) -> int:
        return sum(each.gained(name) for each in intervals)

    return Sums(
        ended=sum(each.ended for each in intervals),
        succeeded=total("succeeded"),
        failed=total("failed"),
        refused=total("refused"),
        input_tokens=total("input_tokens"),
        output_tokens=total("output_tokens"),
        cost=None if None in costs else sum(cost or 0.0 for cost in costs),
        wasted=total("wasted") / NANO,
    )
