"""The checks of `nightmill doctor`: Redis, the results store, the endpoint, the credential."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from nightmill.client.stored import used_store
from nightmill.errors import NightmillError, StoreMismatchError
from nightmill.queue.connection import connect, redis_errors
from nightmill.queue.live_workers import ALIVE_S, read_live
from nightmill.queue.locate import with_redis
from nightmill.queue.used_store import mismatch, note, noted
from nightmill.settings import Settings
from nightmill.store import ResultStore
from nightmill_worker.cli.examine_endpoint import examine_endpoint
from nightmill_worker.cli.examine_redis import examine_redis
from nightmill_worker.cli.finding import Finding


async def examine(settings: Settings) -> list[Finding]:
    """Return the findings in the order in which they are printed."""
    checks: dict[str, Callable[[Settings], Awaitable[list[Finding]]]] = {
        "redis": _redis,
        "results": _store,
        "endpoint": examine_endpoint,
    }
    findings = []
    for what, check in checks.items():
        try:
            findings += await check(settings)
        except NightmillError as error:
            findings.append(Finding(what=what, ok=False, observed=str(error)))
    return findings


@contextlib.asynccontextmanager
async def _served(settings: Settings) -> AsyncIterator[Settings]:
    with contextlib.ExitStack() as servers:
        yield await asyncio.to_thread(servers.enter_context, with_redis(settings))


async def _redis(settings: Settings) -> list[Finding]:
    async with _served(settings) as served:
        return await examine_redis(served)


async def _store(settings: Settings) -> list[Finding]:
    """Open the store, begin a write in it and take it back."""
    at = settings.store_at
    made = isinstance(at, Path) and not at.exists()
    async with ResultStore.open(at) as store:
        await store.probe()
        number = len(await store.batches())
        where = f"{at.resolve()} (SQLite)" if isinstance(at, Path) else store.where
    batches = "1 batch" if number == 1 else f"{number:,} batches"
    state = "made now, writable" if made else "writable"
    found = [Finding(what="results", ok=True, observed=f"{where}, {batches}, {state}")]
    with contextlib.suppress(NightmillError):  # Redis is away, which its own check has found
        found.append(await _store_in_use(settings))
    return found


async def _store_in_use(settings: Settings) -> Finding:
    """Compare the store that was given with the one that this Redis is used with."""
    async with (
        _served(settings) as served,
        contextlib.aclosing(connect(served)) as redis,
        ResultStore.open(settings.store_at) as store,
    ):
        problem = await mismatch(redis, await used_store(settings, store))
        used = await noted(redis)
    if problem is None:
        observed = "no worker has run with this Redis yet" if used is None else used.where
        return Finding(what="store in use", ok=True, observed=observed)
    observed, _, fix = str(problem).partition(". ")
    return Finding(what="store in use", ok=False, observed=observed, fix=fix)


async def accept_store(settings: Settings) -> str:
    """Make the given store the one that this Redis is used with, and return where it is.

    Raises StoreMismatchError while a worker with the other store lives.
    """
    async with (
        _served(settings) as served,
        contextlib.aclosing(connect(served)) as redis,
        ResultStore.open(settings.store_at) as store,
    ):
        mine = await used_store(settings, store)
        with redis_errors():
            if await mismatch(redis, mine) and (workers := await read_live(redis)):
                raise StoreMismatchError(
                    f"{len(workers):,} workers run with the other store: stop them, wait "
                    f"{ALIVE_S:.0f} s and try again"
                )
            return (await note(redis, mine, replace=True)).where
