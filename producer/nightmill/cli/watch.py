"""`status --watch` on a terminal: running batches first, lanes, newest failures.

A picture that took long to make is followed by a longer rest, so that watching stays cheap with a
thousand batches.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from nightmill.cli.redrawn import Redrawn
from nightmill.cli.watch_picture import Picture, Row
from nightmill.client.stored import store_to_read
from nightmill.errors import StoreError
from nightmill.queue import crashes
from nightmill.queue.connection import redis_errors
from nightmill.queue.keys import SINGLES
from nightmill.queue.live_workers import read_full
from nightmill.queue.stops import Stops, read_stops
from nightmill.reports.history import read_history
from nightmill.reports.lanes import Look, looks_between, read_lanes, waits_of
from nightmill.reports.progress import Progress, remaining_s

if TYPE_CHECKING:
    from nightmill.client.corrected import Corrections
    from nightmill.queue.batches import Batches
    from nightmill.records.counts import Counts
    from nightmill.reports.lanes import Lane
    from nightmill.settings import Settings

EVERY_S: Final = 1.0
REST: Final = 30.0
"""A rest lasts at least so many times as long as the picture took of the processor."""
SLOW_S: Final = 5.0
"""Between two reads of what changes slowly: stops, lanes, troubles, failures; seconds."""
SPARK_S: Final = 600.0
"""What the sparkline of a lane reaches back, seconds."""
SHOWN: Final = 15
"""Batches whose stops are read."""
FAILURES: Final = 3


class Watch:
    """Keeps what was read, and says what is read next."""

    def __init__(self, batches: Batches, settings: Settings, corrections: Corrections) -> None:
        """Take a Redis that answers and what corrects its counts."""
        self._batches = batches
        self._settings = settings
        self._corrections = corrections
        self._progress: dict[str, Progress] = {}
        self._failed: dict[str, int] = {}
        self._failures: list[tuple[int, str, str]] = []
        self._stops = Stops()
        self._lanes: list[Lane] = []
        self._looks: list[Look] = []
        self._sparks: dict[tuple[str, str], list[float | None]] = {}
        self._notes: list[str] = []
        self._slow_at = 0.0

    async def run(self, batch: str | None) -> None:
        """Draw until all batches are done, or the task is cancelled; the last picture stays."""
        with Redrawn() as live:
            while True:
                began = time.process_time()
                picture = await self.look(batch)
                live.update(picture, refresh=True)
                if picture.done:
                    return
                await asyncio.sleep(max(EVERY_S, REST * (time.process_time() - began)))

    async def look(self, batch: str | None) -> Picture:
        """Read and return the next picture. Raises BatchNotFoundError, QueueUnavailableError."""
        counts = await self._counts(batch)
        now = time.monotonic()
        for name, each in counts.items():
            known = self._progress.get(name)
            if known is None:
                self._progress[name] = Progress(each, now)
            else:
                known.add(each, now)
        order = sorted(
            counts, key=lambda name: (_over(counts[name]), -(counts[name].created_at or 0))
        )
        if now >= self._slow_at:
            self._slow_at = now + max(SLOW_S, len(self._lanes))
            await self._read_slow(order, counts)
        return Picture(
            rows=[self._row(name, counts[name]) for name in order],
            looks=self._looks,
            sparks=self._sparks,
            failures=self._failures,
            notes=self._notes,
            workers=len(self._stops.workers),
            done=all(_over(each) for each in counts.values()),
        )

    async def _counts(self, batch: str | None) -> dict[str, Counts]:
        if batch == SINGLES:
            return {batch: await self._batches.counts(batch)}
        if batch is not None:
            return {batch: await self._corrections.one(batch)}
        counts = await self._corrections.all()
        singles = await self._batches.counts(SINGLES)
        return counts | ({SINGLES: singles} if singles.accepted else {})

    def _row(self, name: str, counts: Counts) -> Row:
        progress = self._progress[name]
        state: str = counts.state
        if counts.waiting and self._stops.reason(name):
            state = "stopped"
        elif state == "running" and self._stops.no_worker(name, counts):
            state = "waiting"
        return Row(
            name=name,
            state=state,
            counts=counts,
            rate=progress.rate,
            eta_s=remaining_s(counts, progress.rate),
            over=_over(counts),
        )

    async def _read_slow(self, order: list[str], counts: dict[str, Counts]) -> None:
        redis = self._batches.redis
        running = [name for name in order if not _over(counts[name])][:SHOWN]
        self._stops = await read_stops(redis, running)
        self._notes = [
            *map(str, await crashes.read(redis)),
            *await crashes.read_troubles(redis),
            *{line: None for name in running for line in self._stops.shown(name, counts[name])},
        ]
        lanes = await read_lanes(redis)
        with redis_errors():
            full = await read_full(redis, self._stops.workers)
        before, self._lanes = self._lanes, lanes
        self._looks = looks_between(
            before,
            [lane for lane in lanes if lane.in_flight or lane.idle_s < SPARK_S],
            waits=waits_of(counts[each] for each in running),
            workers=len(self._stops.workers),
            full=full,
        )
        history = await read_history(redis, since=time.time() - SPARK_S)
        self._sparks = {
            (lane.account, lane.model): [look.rate("requests") for look in lane.looks]
            for lane in history.lanes
        }
        await self._read_failures(counts)

    async def _read_failures(self, counts: dict[str, Counts]) -> None:
        """Read the newest failures of the batches of which more jobs have failed."""
        more = [n for n, each in counts.items() if each.failed > self._failed.get(n, 0)]
        self._failed = {name: each.failed for name, each in counts.items()}
        if not more:
            return
        found = list(self._failures)
        try:
            async with store_to_read(self._settings, self._batches.redis) as store:
                if store is None:
                    return
                for name in more[-SHOWN:]:
                    for at, job, error in await store.newest_failures(name, FAILURES):
                        found.append((at, job, f"{error.type}: {error.message}"))
        except StoreError:
            return
        self._failures = sorted(set(found), reverse=True)[:FAILURES]


def _over(counts: Counts) -> bool:
    return counts.over and not counts.feeding
