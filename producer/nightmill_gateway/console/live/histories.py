"""The history of the last hour and day, read once for all tabs."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from nightmill.reports.history import History, Interval, read_history
from nightmill_gateway.access.caller import ALL
from nightmill_gateway.console.live.topics import sees

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nightmill.records.counts import Counts
    from nightmill_gateway.console.charts import Period
    from nightmill_gateway.console.live.snapshot import Snapshot
    from nightmill_gateway.services import Services

FRESH_S: Final = 5.0
"""A history that is not older is used again, seconds: points come every 10 s."""
MOST_BATCHES: Final = 30
"""Batches of one tenant whose points are summed up: those that run, then the newest."""
_KEPT: Final = 40
"""Histories in memory at once."""


class Histories:
    """Reads histories, each once in FRESH_S at most."""

    def __init__(self, services: Services) -> None:
        """Use connections that are open while this is used."""
        self._services = services
        self._lock = asyncio.Lock()
        self._known: dict[tuple[str, tuple[str, ...]], tuple[float, History]] = {}

    async def read(self, period: Period, batches: tuple[str, ...] = ()) -> History:
        """Return the history of a period, with the batches that are asked for."""
        async with self._lock:
            key = (period.name, batches)
            at, found = self._known.pop(key, (0.0, None))
            if found is None or time.monotonic() - at > FRESH_S:
                seconds, _ = await self._services.redis.time()
                since = seconds - period.seconds
                found = await read_history(self._services.redis, since=since, batches=batches)
                at = time.monotonic()
            self._known[key] = at, found
            while len(self._known) > _KEPT:
                self._known.pop(next(iter(self._known)))
            return found

    async def seen(
        self, period: Period, snapshot: Snapshot, tenant: str
    ) -> tuple[History, Sequence[Interval]]:
        """Return a history, and the intervals of what a tenant sees: the fleet, or its batches."""
        if tenant == ALL:
            found = await self.read(period)
            return found, found.fleet
        own = [name for name in snapshot.view.counts if sees(tenant, name)]
        found = await self.read(period, tuple(sorted(newest(snapshot.view.counts, own))))
        return found, [each for some in found.batches.values() for each in some]


def newest(counts: Mapping[str, Counts], own: Iterable[str]) -> list[str]:
    """Return MOST_BATCHES of a tenant's batches: those that run, then those that began last."""

    def order(name: str) -> tuple[bool, int, str]:
        return counts[name].over, -(counts[name].created_at or 0), name

    return sorted(own, key=order)[:MOST_BATCHES]
