"""Open and close together what commands use: the producer, the batches, the results store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nightmill.client.producer import Producer
from nightmill.client.stored import extra_installed, store_beside, store_to_read
from nightmill.errors import BatchNotFoundError, NightmillError, StoreMissingError
from nightmill.queue.batches import Batches
from nightmill.queue.connection import connect, redis_errors
from nightmill.queue.used_store import noted
from nightmill.safety import private

if TYPE_CHECKING:
    from nightmill.settings import Settings
    from nightmill.store import ResultStore


LOOK_S: Final = 2.0
"""Longest time to ask Redis about an error, seconds."""
SET: Final = "Set NIGHTMILL_STORE_URL or NIGHTMILL_DATA_DIR to that store."


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Open connections."""

    producer: Producer
    batches: Batches
    store: ResultStore | None
    """None when this machine has no store, or the store extra is not installed."""

    async def stored(self, batch: str = "") -> ResultStore:
        """Return the store. Raises StoreMissingError, and BatchNotFoundError when there is none."""
        if self.store is None:
            if extra_installed():
                await require_store(self.producer.settings, batch)
            raise StoreMissingError
        return self.store


@asynccontextmanager
async def open_session(settings: Settings, *, reads: bool = False) -> AsyncIterator[Session]:
    """Connect to Redis and, if this machine has or shares one, to the results store.

    Raises StoreMismatchError when another store is used with this Redis; a command that only
    `reads` goes on without a store then.
    """
    async with AsyncExitStack() as stack:
        producer = await stack.enter_async_context(Producer(settings=settings))
        batches = await stack.enter_async_context(open_batches(settings))
        open_store = store_to_read if reads else store_beside
        store = await stack.enter_async_context(open_store(settings, batches.redis))
        yield Session(producer=producer, batches=batches, store=store)


@asynccontextmanager
async def open_batches(settings: Settings) -> AsyncIterator[Batches]:
    """Connect to Redis only. Raises QueueUnavailableError when it does not answer."""
    async with aclosing(connect(settings)) as redis:
        with redis_errors():
            await redis.ping()
        yield Batches(redis)


@asynccontextmanager
async def open_store(settings: Settings) -> AsyncIterator[ResultStore]:
    """Connect to the results store. Raises StoreMissingError on the base install."""
    if not extra_installed():
        raise StoreMissingError
    from nightmill.store import ResultStore  # noqa: PLC0415 - optional extra

    async with ResultStore.open(settings.store_at) as store:
        yield store


@asynccontextmanager
async def open_results(settings: Settings, batch: str) -> AsyncIterator[ResultStore]:
    """Connect to the store, which must have results of `batch` ("" means the single jobs).

    Raises BatchNotFoundError, which lists the known batches, when it has none.
    """
    await require_store(settings, batch)
    async with open_store(settings) as store:
        await require_rows(store, batch)
        yield store


async def require_store(settings: Settings, batch: str) -> None:
    """Raise BatchNotFoundError when the store is a file that is not there."""
    where = settings.store_at
    if isinstance(where, Path) and not private.exists(where):
        hint = await _where_else(settings, batch)
        raise BatchNotFoundError(f"no results in {where.parent.resolve()}. {hint}")


async def _where_else(settings: Settings, batch: str) -> str:
    """Return where the results of a batch may be, as far as Redis knows that."""
    hint = "Set NIGHTMILL_DATA_DIR or NIGHTMILL_STORE_URL to where the workers store them."
    with suppress(NightmillError, TimeoutError):
        async with asyncio.timeout(LOOK_S), open_batches(settings) as batches:
            if batch in await batches.names():
                hint = (
                    f'Batch "{batch}" is in this Redis; if its workers use PostgreSQL, set '
                    "NIGHTMILL_STORE_URL."
                )
            if used := await noted(batches.redis):
                hint = f"The workers of this Redis store them in {used.where}. {SET}"
    return hint


async def require_rows(store: ResultStore, batch: str) -> None:
    """Raise BatchNotFoundError, which lists the known batches, unless `batch` has a row."""
    if not sum((await store.counts(batch)).values()):
        known = ", ".join(name for name in await store.batches() if name) or "none"
        raise BatchNotFoundError(f'no results of a batch "{batch}"; batches with results: {known}')
