"""Everything that runs, at one moment: batches, lanes, workers. All pages and tabs share a look."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.queue.connection import redis_errors
from nightmill.queue.live_workers import Facts, LiveWorker, full, read_facts
from nightmill.reports.lanes import Lane, Look, looks_between, read_lanes, waits_of
from nightmill.reports.view import View

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightmill_gateway.console.looks import Looks
    from nightmill_gateway.services import Services

FRESH_S: Final = 0.5
"""A look that is not older is used again, seconds."""
RATES_S: Final = 1.0
"""Shortest time over which the rates of lanes are measured, seconds."""
FIRST_S: Final = 0.2
"""The same for the first look, which a person waits for."""
OLD_S: Final = 10.0
"""A look that is older is not compared with, seconds."""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What runs at one moment."""

    at: float
    """Seconds of this process's monotonic clock."""
    view: View
    """All batches, as `nightmill status` shows them."""
    looks: tuple[Look, ...] = ()
    """The lanes, with what they did in the last seconds."""
    workers: tuple[tuple[LiveWorker, Facts], ...] = ()
    """The workers that run, sorted by host and process."""

    @property
    def jobs_wait(self) -> bool:
        """Whether jobs wait in Redis, of any batch."""
        return any(counts.waiting for counts in self.view.counts.values())


class Snapshots:
    """Reads snapshots; at most one at a time, and none while one is fresh."""

    def __init__(self, services: Services, looks: Looks) -> None:
        """Use connections that are open while this is used."""
        self._services = services
        self._looks = looks
        self._lock = asyncio.Lock()
        self._last: Snapshot | None = None
        self._before: tuple[float, Sequence[Lane]] | None = None

    async def now(self) -> Snapshot:
        """Return what runs now. Raises what Redis and the store raise."""
        async with self._lock:
            if self._last is None or time.monotonic() - self._last.at > FRESH_S:
                self._last = await self._read()
            return self._last

    async def _read(self) -> Snapshot:
        before = self._before
        if before is None or time.monotonic() - before[0] > OLD_S:
            before = time.monotonic(), await read_lanes(self._services.redis)
            await asyncio.sleep(FIRST_S)
        view = await self._looks.all()
        lanes, at = await read_lanes(self._services.redis), time.monotonic()
        with redis_errors():
            facts = await read_facts(self._services.redis, view.stops.workers)
        if self._before is None or at - self._before[0] >= RATES_S:
            self._before = at, lanes
        looks = looks_between(
            before[1],
            lanes,
            waits=waits_of(view.counts.values()),
            workers=len(view.stops.workers),
            full=full(view.stops.workers, facts),
        )
        return Snapshot(
            at=at,
            view=view,
            looks=tuple(looks),
            workers=_sorted(view.stops.workers, facts),
        )


def _sorted(
    workers: Sequence[LiveWorker], facts: dict[str, Facts]
) -> tuple[tuple[LiveWorker, Facts], ...]:
    pairs = [(worker, facts[worker.name]) for worker in workers]
    return tuple(sorted(pairs, key=lambda each: (each[1].host, each[1].pid, each[0].name)))


def fields_of(view: View, batch: str) -> dict[str, object]:
    """Return what `nightmill status BATCH --json` prints, of one batch of a view of all."""
    return dict(msgspec.json.decode(msgspec.structs.replace(view, only=batch).to_json()))
