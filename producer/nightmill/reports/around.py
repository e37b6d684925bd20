"""What a panel shows beside the counts: what limits the lanes in use, and the newest error."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.client.stored import store_to_read
from nightmill.errors import QueueUnavailableError, StoreError
from nightmill.queue.connection import redis_errors
from nightmill.queue.live_workers import read_full, read_live
from nightmill.reports.lanes import Look, read_lanes, waits_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.asyncio import Redis

    from nightmill.records.counts import Counts
    from nightmill.reports.lanes import Lane, Waits
    from nightmill.reports.panel import Panel
    from nightmill.settings import Settings

EVERY_S: Final = 2.0
"""Between two reads, seconds: the panel must cost the run nothing."""
USED_S: Final = 30.0
"""A lane is in use for so long after the last claim, seconds."""
SHOWN_LANES: Final = 2


class Around:
    """Reads beside the run, and keeps the last answer while Redis or the store is away."""

    def __init__(self, redis: Redis, settings: Settings, batch: str) -> None:
        """Take a client that the caller closes, and the settings that say where the store is."""
        self._redis = redis
        self._settings = settings
        self._batch = batch
        self._before: dict[str, Lane] = {}
        self._failed = 0
        self._latest: Counts | None = None
        self.limited_by: tuple[str, ...] = ()
        self.newest_error = ""

    def added(self, panel: Panel) -> Panel:
        """Return `panel` with what was read last; its counts say what to read next."""
        self._latest = panel.counts
        return msgspec.structs.replace(
            panel, limited_by=self.limited_by, newest_error=self.newest_error
        )

    async def follow(self) -> None:
        """Read again and again until the task is cancelled."""
        while True:
            if self._latest is not None:
                await self.read(self._latest)
            await asyncio.sleep(EVERY_S)

    async def read(self, counts: Counts) -> None:
        """Read what limits the lanes, and the newest error when more jobs have failed."""
        try:
            lanes = await read_lanes(self._redis)
            with redis_errors():
                full = await read_full(self._redis, await read_live(self._redis))
            self.limited_by = self._sentences(lanes, waits_of([counts]), full)
            if counts.failed > self._failed:
                await self._read_error()
                self._failed = counts.failed
        except (QueueUnavailableError, StoreError, TimeoutError):
            return

    async def _read_error(self) -> None:
        async with store_to_read(self._settings, self._redis) as store:
            found = [] if store is None else await store.newest_failures(self._batch, 1)
        for _, _, error in found:
            self.newest_error = f"{error.type}: {error.message}"

    def _sentences(self, lanes: Iterable[Lane], waits: Waits, full: int) -> tuple[str, ...]:
        used = sorted(
            (lane for lane in lanes if lane.in_flight or lane.idle_s < USED_S),
            key=lambda lane: -lane.in_flight,
        )
        looks = [
            Look(before=before, now=lane, waits=waits, full=full)
            for lane in used
            if (before := self._before.get(f"{lane.account}:{lane.model}"))
        ]
        self._before = {f"{lane.account}:{lane.model}": lane for lane in used}
        several = len(looks) > 1
        shown = [f"{look.now.name}: {look.why}" if several else look.why for look in looks]
        if len(shown) > SHOWN_LANES:
            shown[SHOWN_LANES:] = [f"{len(shown) - SHOWN_LANES:,} more: nightmill lanes"]
        return tuple(shown)
