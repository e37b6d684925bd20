"""Reads results from the store, where a client has one."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from nightmill.errors import StoreMismatchError, StoreMissingError
from nightmill.queue.batches import Batches
from nightmill.queue.connection import redis_errors
from nightmill.queue.used_store import UsedStore, differing, mismatch, note, noted
from nightmill.safety import private
from nightmill.safety.redaction import shown_url

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nightmill.records.result import Result
    from nightmill.settings import Settings
    from nightmill.store import ResultStore


@asynccontextmanager
async def store_beside(settings: Settings, redis: Redis) -> AsyncIterator[ResultStore | None]:
    """Open the results store to write; None without the store's extra or a data directory.

    Where no data directory is, no result was ever stored. Raises StoreMismatchError when another
    store is used with `redis`.
    """
    where = settings.store_at
    folder = where.parent if isinstance(where, Path) else where
    if private.missing(folder) or not extra_installed():
        yield None
        return
    async with _opened(settings, redis) as store:
        yield store


@asynccontextmanager
async def store_to_read(settings: Settings, redis: Redis) -> AsyncIterator[ResultStore | None]:
    """Open the results store to read; None when there is none, or another is used with `redis`.

    Nothing is made: where no file is, there are no results.
    """
    if private.missing(settings.store_at) or not extra_installed():
        yield None
        return
    async with AsyncExitStack() as stack:
        store: ResultStore | None = None
        # suppressed: the driver of a server is not installed here
        with suppress(StoreMissingError, StoreMismatchError):
            store = await stack.enter_async_context(_opened(settings, redis))
        yield store


@asynccontextmanager
async def store_of_results(settings: Settings, redis: Redis) -> AsyncIterator[ResultStore | None]:
    """Open the results store that is used with `redis`; None while no job has ended.

    Raises StoreMissingError where the store cannot be read, StoreMismatchError for another one.
    """
    if not extra_installed():
        raise StoreMissingError
    if private.missing(settings.store_at):
        if used := await noted(redis):
            raise StoreMissingError(
                f"the results are in {used.where}, and {settings.store_at} does not exist: set "
                "NIGHTMILL_STORE_URL or NIGHTMILL_DATA_DIR to the store in use"
            )
        yield None
        return
    async with _opened(settings, redis) as store:
        yield store


@asynccontextmanager
async def _opened(settings: Settings, redis: Redis) -> AsyncIterator[ResultStore]:
    """Open the results store. Raises StoreMismatchError when another is used with `redis`."""
    from nightmill.store import ResultStore  # noqa: PLC0415 - optional extra

    async with ResultStore.open(settings.store_at) as store:
        if problem := await mismatch(redis, await used_store(settings, store)):
            raise problem
        yield store


def extra_installed() -> bool:
    """Tell whether the extra that the results store needs is installed."""
    return find_spec("sqlalchemy") is not None


def place_of(settings: Settings) -> str | None:
    """Return where the results store is looked for; None when the extra for it is not installed."""
    if not extra_installed():
        return None
    if isinstance(settings.store_at, Path):
        return str(settings.store_at)
    return shown_url(settings.store_at)


async def used_store(settings: Settings, store: ResultStore) -> UsedStore:
    """Return what names `store` in Redis."""
    at = settings.store_at
    where = f"{at.resolve()} on {socket.gethostname()}" if isinstance(at, Path) else store.where
    return UsedStore(identity=await store.identity(), where=where)


async def join_store(settings: Settings, redis: Redis, store: ResultStore) -> None:
    """Note `store` in Redis as the one that is used with it, before jobs are run into it.

    Raises StoreMismatchError when another one is noted, and QueueUnavailableError.
    """
    mine = await used_store(settings, store)
    with redis_errors():
        used = await note(redis, mine)
    if problem := differing(used, mine):
        raise problem


async def from_store(settings: Settings, redis: Redis, job_id: str) -> Result | None:
    """Return the stored row of a job; None without a store or without a row."""
    async with store_to_read(settings, redis) as store:
        return None if store is None else await store.get(job_id)


async def acceptance_of(settings: Settings, redis: Redis, batch: str) -> str | None:
    """Return what a batch accepts, as Redis has it, or else the store; None for the default."""
    if found := await Batches(redis).accept_of(batch):
        return found
    async with store_to_read(settings, redis) as store:
        known = None if store is None else await store.known(batch)
    return None if known is None else known.accept
