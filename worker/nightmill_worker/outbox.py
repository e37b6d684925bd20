"""The outbox: what executors hand over, carried to Redis and the store many at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from nightmill_worker.batcher import Batcher
from nightmill_worker.events import FinishRefused

if TYPE_CHECKING:
    from nightmill_worker.engine import Engine, Release, Settlement
    from nightmill_worker.events import Emit
    from nightmill_worker.flight import Flight
    from nightmill_worker.roster import Roster
    from nightmill_worker.sink import Ending, Sink

LINGER_S: Final = 0.02
LIMIT: Final = 500


class Outbox:
    """Settlements, releases and endings of one process; each kind goes out in groups."""

    def __init__(self, engine: Engine, sink: Sink, roster: Roster, emit: Emit) -> None:
        """Take where things go, and the roster that forgets what has gone."""
        self._engine = engine
        self._sink = sink
        self._roster = roster
        self._emit = emit
        self._settlements = Batcher(self._send_settlements, linger_s=LINGER_S, limit=LIMIT)
        self._releases = Batcher(self._send_releases, linger_s=LINGER_S, limit=LIMIT)

    def settle(self, item: Settlement) -> None:
        """Account for an answer."""
        self._settlements.put(item)

    def release(self, item: Release) -> None:
        """Give a job back."""
        self._releases.put(item)

    def end(self, item: Ending) -> None:
        """Store a row and finish its job."""
        self._sink.put(item)

    def alone_in_lane(self, flight: Flight) -> bool:
        """Tell whether nothing else of this flight's lane runs here."""
        return self._roster.alone_in_lane(flight)

    async def run(self) -> None:
        """Carry until `close`, then what is left."""
        await asyncio.gather(self._settlements.run(), self._releases.run(), self._sink.run())

    def close(self) -> None:
        """Make `run` return once nothing is left."""
        for outlet in (self._settlements, self._releases, self._sink):
            outlet.close()

    async def _send_settlements(self, items: list[Settlement]) -> None:
        await self._engine.settle(items)
        self._roster.changed.set()  # slots are free now

    async def _send_releases(self, items: list[Release]) -> None:
        late = await self._engine.release(items)
        for item in items:
            self._roster.forget(item.id, item.token)
        for job_id in late:
            self._emit(FinishRefused(job_id=job_id))
