"""Keeps the history: the governor reads lanes and batches every 10 s, and writes their points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.queue import keys
from nightmill.queue.batches import Batches
from nightmill.queue.connection import redis_errors
from nightmill.reports import history_points as history
from nightmill.reports.lanes import read_lanes
from nightmill_worker.queue.lua_source import source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from redis.asyncio import Redis

    from nightmill.records.counts import Counts

MOST_BATCHES: Final = 64
"""Batches whose points are written at once at most: it bounds the memory of Redis."""
FIRST_S: Final = 1.0
"""Wait of a worker that starts, or that is not the governor, seconds."""
LATE_S: Final = 0.05
"""So long after a step has begun its point is read, seconds."""
_SPANS: Final = msgspec.json.encode(history.SPANS)


class HistoryKeeper:
    """Writes one point for each lane, each batch that is not over, and the fleet."""

    def __init__(self, redis: Redis) -> None:
        """Use a client that the caller closes."""
        self._redis = redis
        self._batches = Batches(redis)
        self._write = redis.register_script(source("history"))
        self._last: Mapping[str, Counts] = {}
        self.wait_s = FIRST_S
        """Until the next point, seconds."""

    async def keep(self) -> None:
        """Write the points of now. Raises QueueUnavailableError; then they are missing."""
        seconds, micros = await self._redis.time()
        at = round(seconds + micros / 1e6, 3)
        self.wait_s = history.HOUR.step_s - at % history.HOUR.step_s + LATE_S
        counts = {keys.SINGLES: await self._batches.counts(keys.SINGLES)}
        counts |= await self._batches.all()
        points: list[tuple[str, history.LanePoint | history.Totals]] = [
            (history.FLEET, history.totals(at, counts.values()))
        ]
        for lane in await read_lanes(self._redis):
            if lane.idle_s <= history.DAY.seconds:
                point = msgspec.structs.replace(history.lane_point(lane), at=at)
                points.append((history.lane_series(lane.account, lane.model), point))
        points += [
            (history.batch_series(batch), history.totals(at, [counts[batch]]))
            for batch in chosen(self._last, counts)
        ]
        self._last = counts
        flat = [part for name, point in points for part in (name, msgspec.json.encode(point))]
        with redis_errors():
            await self._write(args=[str(at), _SPANS, *flat])


def chosen(last: Mapping[str, Counts], now: Mapping[str, Counts]) -> list[str]:
    """Return the batches that get a point: not over, or changed since the last look.

    The changed ones come first, MOST_BATCHES at most.
    """
    changed = [name for name, counts in now.items() if name in last and last[name] != counts]
    others = [name for name, counts in now.items() if name not in changed and not counts.over]
    return [*changed, *others][:MOST_BATCHES]
