"""The connections that all handlers share."""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import msgspec

from nightmill.client.producer import Producer
from nightmill.client.stored import join_store
from nightmill.message_batches.connections import Connections
from nightmill.queue.connection import connect, redis_errors
from nightmill.records.stored_body import LARGEST
from nightmill.store import ResultStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nightmill.params import Defaults
    from nightmill.records.api import Api
    from nightmill.settings import Settings


class Services(Connections):
    """Redis, the results store, and what the client makes of them."""

    def defaults(self, api: Api) -> Defaults:
        """Return what a request is checked with that asks for this API version and these betas."""
        return msgspec.structs.replace(self.producer.defaults, api=api)


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Connect to Redis and to the store, which is noted as the one in use.

    Raises QueueUnavailableError, StoreUnavailableError, and StoreMismatchError when another store
    is used with this Redis.
    """
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(aclosing(connect(settings)))
        with redis_errors():
            await redis.ping()
        store = await stack.enter_async_context(ResultStore.open(settings.store_at))
        await join_store(settings, redis, store)
        producer = await stack.enter_async_context(Producer(settings=settings))
        # Clients wait for these jobs, and send what the API takes. MAX_PAYLOAD_BYTES is for bulk.
        producer.defaults = msgspec.structs.replace(producer.defaults, max_payload_bytes=LARGEST)
        yield Services.over(settings, redis, store, producer)
