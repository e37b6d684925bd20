"""What work on Message Batches needs: Redis, the results store, and the client over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from nightmill.queue.batches import Batches
from nightmill.store.message_batches import MessageBatches

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nightmill.client.producer import Producer
    from nightmill.settings import Settings
    from nightmill.store import ResultStore


@dataclass(frozen=True, kw_only=True)
class Connections:
    """Open connections, which the caller closes."""

    settings: Settings
    redis: Redis
    store: ResultStore
    batches: Batches
    producer: Producer
    message_batches: MessageBatches

    @classmethod
    def over(cls, settings: Settings, redis: Redis, store: ResultStore, producer: Producer) -> Self:
        """Return what can be made of open connections."""
        return cls(
            settings=settings,
            redis=redis,
            store=store,
            batches=Batches(redis),
            producer=producer,
            message_batches=MessageBatches(store),
        )
