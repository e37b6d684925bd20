"""Which results store is used with a Redis: its first worker notes that, all others compare.

One Redis with two stores loses results: a job that one store has is called again for the other, and
its rows are where nobody looks for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.errors import StoreMismatchError
from nightmill.queue import keys, wire
from nightmill.queue.connection import redis_errors
from nightmill.queue.live_workers import read_live
from nightmill.records.counts import text

if TYPE_CHECKING:
    from redis.asyncio import Redis

ACCEPT: Final = "nightmill doctor --accept-store"


class UsedStore(msgspec.Struct, frozen=True, kw_only=True):
    """A results store by its identity; `where` it is, is for a person and has no password."""

    identity: str
    where: str


async def noted(redis: Redis) -> UsedStore | None:
    """Return the store that is used with this Redis; None: no worker has run yet."""
    with redis_errors():
        identity, where = await redis.execute_command("HMGET", keys.STORE, "id", "where")
    if identity is None:
        return None
    return UsedStore(identity=text(identity), where=text(where or b"?"))


async def note(redis: Redis, store: UsedStore, *, replace: bool = False) -> UsedStore:
    """Note `store` unless another one is noted; return the one that is noted then.

    A store that was made anew in the place of the noted one takes its place, unless a worker
    lives: it may be another place of the same name. With `replace` it does so in any case. Raises
    redis-py's own errors, so that workers can repeat the call.
    """
    script = redis.register_script(wire.script("store"))

    async def run(*, replace: bool) -> UsedStore:
        identity, where = await script(args=[store.identity, store.where, int(replace)])
        return UsedStore(identity=text(identity), where=text(where))

    used = await run(replace=replace)
    if used.identity == store.identity:
        return used
    # Where a worker lives by now, it may have noted this store since the first look.
    return await run(replace=await _made_anew(redis, used, store))


async def _made_anew(redis: Redis, used: UsedStore, store: UsedStore) -> bool:
    """Tell whether `store`, another one, was made in the place of `used`: its file was removed."""
    return used.where == store.where and not await read_live(redis)


async def mismatch(redis: Redis, store: UsedStore) -> StoreMismatchError | None:
    """Return the error of a `store` that is not the one used with this Redis, None if it is.

    None also when no worker has noted one yet.
    """
    used = await noted(redis)
    if used is None or used.identity == store.identity:
        return None
    with redis_errors():
        if await _made_anew(redis, used, store):
            return None
    return differing(await noted(redis) or used, store)  # a worker may have noted it meanwhile


def differing(used: UsedStore, store: UsedStore) -> StoreMismatchError | None:
    """Return the error of a `store` that is not the one `used`, None if it is."""
    if used.identity == store.identity:
        return None
    return StoreMismatchError(
        f"this Redis is used with another results store: {used.where}; the one given is "
        f"{store.where}. Set NIGHTMILL_STORE_URL or NIGHTMILL_DATA_DIR to the store in use, or "
        "NIGHTMILL_REDIS_URL to another Redis. If the store in use is gone or was moved, stop all "
        f"workers and run: {ACCEPT}"
    )
