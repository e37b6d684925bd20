"""Looks after Message Batches in a worker, so that they need no gateway once they are accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nightmill_worker.events import failed_loop

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nightmill.client.producer import Producer
    from nightmill.message_batches.keeper import Keeper
    from nightmill.settings import Settings
    from nightmill.store import ResultStore
    from nightmill_worker.events import Emit

LOOK_S: Final = 1.0
"""Between two looks while there are batches that have not ended, seconds."""
IDLE_S: Final = 5.0
"""Between two looks at a store without such batches, seconds. A look sends nothing to Redis."""


class KeptBatches:
    """The keeper of one worker process; it connects when it first looks."""

    def __init__(self, settings: Settings, redis: Redis, store: ResultStore, emit: Emit) -> None:
        """Use connections that the caller closes."""
        self._settings, self._redis, self._store, self._emit = settings, redis, store, emit
        self._producer: Producer | None = None
        self._keeper: Keeper | None = None
        self.pause_s = LOOK_S
        """How long to wait before the next look, seconds."""

    async def look(self) -> None:
        """Start what the batches need now."""
        if self._keeper is None:
            from nightmill.client.producer import Producer  # noqa: PLC0415 - workers start faster
            from nightmill.message_batches.connections import Connections  # noqa: PLC0415
            from nightmill.message_batches.keeper import Keeper  # noqa: PLC0415

            self._producer = Producer(settings=self._settings)
            connections = Connections.over(self._settings, self._redis, self._store, self._producer)
            self._keeper = Keeper(connections, self._failed)
        self.pause_s = LOOK_S if await self._keeper.look() else IDLE_S

    def _failed(self, where: str, error: Exception, again_s: float) -> None:
        self._emit(failed_loop(where, error, again_s))

    async def close(self) -> None:
        """End what `look` has started."""
        if self._keeper is not None:
            await self._keeper.close()
        if self._producer is not None:
            await self._producer.aclose()
