"""The history of lanes, batches and the fleet over the last hour or day, read from Redis."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from nightmill.queue import keys
from nightmill.queue.connection import redis_errors
from nightmill.records.counts import text
from nightmill.records.limits import NANO
from nightmill.reports.history_points import (
    DAY,
    FLEET,
    HOUR,
    LanePoint,
    Span,
    Totals,
    batch_series,
    lane_of,
    lane_series,
)
from nightmill.reports.lanes import Look

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from redis.asyncio import Redis

LATE_S: Final = 60.0
"""A caller that asks for the last hour computed its moment so long ago at most, seconds."""
Point = TypeVar("Point", LanePoint, Totals)

GAP: Final = 2.5
"""Two points that are more steps apart have a gap between them: nobody wrote meanwhile."""


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch or the fleet did between two points that follow each other."""

    before: Totals
    now: Totals

    @property
    def seconds(self) -> float:
        """The time between the two points."""
        return self.now.at - self.before.at

    def gained(self, name: str) -> int:
        """Return how much a field of Totals grew; 0 when jobs that had ended run again."""
        return max(0, int(getattr(self.now, name) - getattr(self.before, name)))

    @property
    def ended(self) -> int:
        """Jobs that ended, with any outcome."""
        return sum(map(self.gained, ("succeeded", "failed", "cancelled", "expired")))

    @property
    def cost(self) -> float | None:
        """US dollars; None when a job of a model without a known price ended."""
        return None if self.gained("unpriced") else self.gained("nanodollars") / NANO

    @property
    def utilisation(self) -> float | None:
        """Share of the limits that was used while jobs waited; None when none waited."""
        metered = self.gained("metered_ms")
        return self.gained("used_ms") / metered if metered else None


class LaneHistory(msgspec.Struct, frozen=True, kw_only=True):
    """One lane over time. A time without a Look is a gap: nobody wrote, or the lane began anew."""

    account: str
    model: str
    looks: tuple[Look, ...]
    """From old to new; see `before.at` and `now.at` of each."""


class History(msgspec.Struct, frozen=True, kw_only=True):
    """What `read_history` found. A time without an interval is a gap, not a zero."""

    at: float
    """When it was read, epoch seconds of Redis."""
    step_s: int
    """Time between two points without a gap, seconds."""
    lanes: tuple[LaneHistory, ...]
    """Lanes with at least one look, sorted."""
    fleet: tuple[Interval, ...]
    """All batches and the single jobs together."""
    batches: dict[str, tuple[Interval, ...]]
    """Each batch that was asked for; "" for the single jobs."""


async def read_history(redis: Redis, *, since: float, batches: Collection[str] = ()) -> History:
    """Return what is kept since a moment (epoch seconds of Redis), a day ago at most.

    Points are 10 s apart when `since` is within the last hour (61 minutes), else 120 s. Raises
    QueueUnavailableError.
    """
    with redis_errors():
        seconds, micros = await redis.time()
        now = seconds + micros / 1e6
        span = HOUR if now - since <= HOUR.seconds + LATE_S else DAY
        lanes = sorted(await redis.execute_command("SMEMBERS", keys.LANES))
        named = [text(lane).partition(":")[::2] for lane in lanes]
        series = [lane_series(*name) for name in named]
        wanted = [*series, FLEET, *map(batch_series, batches)]
        first = -min(span.most, max(2, int((now - since) / span.step_s) + 3))
        async with redis.pipeline(transaction=False) as pipe:
            for each in wanted:
                pipe.execute_command("LRANGE", keys.history(span.name, each), first, -1)
            found = dict(zip(wanted, await pipe.execute(), strict=True))
    period = (since - span.step_s, now + span.step_s)
    looks = {
        name: tuple(_looks(_points(found[each], LanePoint, period), span, name))
        for name, each in zip(named, series, strict=True)
    }
    return History(
        at=now,
        step_s=span.step_s,
        lanes=tuple(
            LaneHistory(account=account, model=model, looks=some)
            for (account, model), some in looks.items()
            if some
        ),
        fleet=_intervals(found[FLEET], span, period),
        batches={b: _intervals(found[batch_series(b)], span, period) for b in batches},
    )


def _looks(points: Sequence[LanePoint], span: Span, name: tuple[str, str]) -> Iterator[Look]:
    for before, now in _neighbours(points, span):
        yield Look(before=lane_of(before, *name), now=lane_of(now, *name))


def _intervals(
    raw: Sequence[bytes], span: Span, period: tuple[float, float]
) -> tuple[Interval, ...]:
    pairs = _neighbours(_points(raw, Totals, period), span)
    return tuple(Interval(before=before, now=now) for before, now in pairs)


def _points(raw: Iterable[bytes], kind: type[Point], period: tuple[float, float]) -> list[Point]:
    """Return the points of a time in their order; what cannot be read is left out."""
    points: list[Point] = []
    for each in raw:
        try:
            point = msgspec.json.decode(each, type=kind, strict=False)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        if period[0] <= point.at <= period[1]:
            points.append(point)
    return sorted(points, key=lambda point: point.at)


def _neighbours(points: Sequence[Point], span: Span) -> Iterator[tuple[Point, Point]]:
    """Yield two points that follow each other, without the pairs around a gap or a new start."""
    for before, now in pairwise(points):
        went_on = all(a <= b for a, b in zip(before.counters(), now.counters(), strict=True))
        if went_on and 0 < now.at - before.at <= GAP * span.step_s:
            yield before, now
