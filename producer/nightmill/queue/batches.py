"""What stands in Redis about batches: their counts, and the lines their jobs are sent over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import msgspec

from nightmill.errors import BatchNotFoundError
from nightmill.pricing.cost import token_prices
from nightmill.queue import keys, wire
from nightmill.queue.connection import redis_errors
from nightmill.records.counts import Counts, read_counts
from nightmill.records.job import now_ms
from nightmill.records.limits import Change, Limits

if TYPE_CHECKING:
    from redis.asyncio import Redis


class _Refused(msgspec.Struct):
    refused: int = 0


_refused = msgspec.json.Decoder(_Refused, strict=False)


class Batches:
    """The batches of one Redis. Every method raises QueueUnavailableError when it is away."""

    def __init__(self, redis: Redis) -> None:
        """Use a client that the caller closes."""
        self.redis = redis
        self._counts = redis.register_script(_script("counts"))
        self._reconcile = redis.register_script(_script("reconcile"))

    async def counts(self, batch: str) -> Counts:
        """Return the counts of `batch`, "" for the single jobs; all zero when it is not known."""
        return (await self._look([batch]))[0]

    async def names(self) -> list[str]:
        """Return the names of the batches that were ever fed, sorted."""
        return await self._members(keys.BATCHES)

    async def require(self, batch: str) -> None:
        """Raise BatchNotFoundError, which names the batches there are, unless `batch` is one."""
        names = await self.names()
        if batch not in names:
            known = ", ".join(names) or "none"
            raise BatchNotFoundError(f'no batch "{batch}"; batches: {known}')

    async def all(self) -> dict[str, Counts]:
        """Return every batch's counts, sorted by name."""
        names = await self.names()
        return dict(zip(names, await self._look(names), strict=True))

    async def _look(self, names: Sequence[str]) -> list[Counts]:
        with redis_errors():
            return [read_counts(*found) for found in await self._counts(args=list(names))]

    async def make_known(self, batch: str) -> None:
        """List `batch` before it is fed; its total is unknown until its source has ended."""
        key = keys.BATCH + batch
        with redis_errors():
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.sadd(keys.BATCHES, batch)
                pipe.hdel(key, "total")
                pipe.hsetnx(key, "created_at", str(now_ms()))
                await pipe.execute()

    async def pause(self, batch: str, reason: str) -> None:
        """Claim no more jobs of `batch` from now on; calls under way finish."""
        await self._write(batch, flag="paused", reason=reason)

    async def resume(self, batch: str) -> None:
        """Claim jobs of `batch` again; its canary starts anew."""
        with redis_errors():
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.hdel(keys.BATCH + batch, "flag", "reason", "streak")
                pipe.publish(keys.WAKE, "resumed")
                await pipe.execute()

    async def cancel(self, batch: str) -> None:
        """End `batch`: calls under way finish, the rest becomes `cancelled` rows without a call.

        Takes effect at once; the rows are written behind it (maintenance.cancellation).
        """
        await self._write(batch, flag="cancelled", reason="by nightmill cancel")

    async def limit(self, batch: str, change: Change, *, model: str) -> Limits:
        """Hold `batch` to new limits from the next claim on, and return all it has now.

        `model` is that of its first calls, whose price a budget in dollars starts from. A batch
        that its budget held, or that its deadline ended, goes on: if the new limits leave it no
        room either, the next claim says so again. Raises InvalidLimitError that names the limit.
        """
        before = await self.counts(batch)
        with redis_errors():
            seconds, _ = await self.redis.execute_command("TIME")
        prices = None if change.budget_usd is None else token_prices(model)
        limits = change.over(before.limits, now_ms=int(seconds) * 1000, prices=prices)
        await self._write(batch, limits=msgspec.json.encode(limits).decode())
        if before.flag in {"budget", "expired"}:
            await self.resume(batch)
        return limits

    async def _write(self, batch: str, **fields: str) -> None:
        with redis_errors():
            async with self.redis.pipeline(transaction=False) as pipe:
                pipe.hset(keys.BATCH + batch, mapping=fields)
                await pipe.execute()

    async def set_total(self, batch: str, lines: int) -> None:
        """Note that the source of `batch` has ended after `lines` jobs.

        A batch that also got jobs from elsewhere has those in its total too.
        """
        total = max(lines, (await self.counts(batch)).accepted)
        await self._write(batch, total=str(total))

    async def forget(self, batch: str) -> None:
        """Remove what is known of `batch`, which has neither jobs nor rows."""
        with redis_errors():
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.srem(keys.BATCHES, batch)
                pipe.delete(keys.BATCH + batch, keys.QUEUES_OF + batch)
                await pipe.execute()

    async def set_ended(self, batch: str, before: int, fields: Mapping[str, int]) -> bool:
        """Set counts of ended jobs; return whether it was done (see reconcile.lua).

        `before` is how many ended jobs Redis counted when `fields` were read from the store.
        """
        flat = [part for pair in fields.items() for part in pair]
        with redis_errors():
            return bool(await self._reconcile(args=[batch, before, *flat]))

    async def accounts(self) -> dict[str, dict[str, str]]:
        """Return fingerprint -> {"state", "reason"} of every line that is not simply open.

        A line is an endpoint with a credential; its state is stopped, trial or trying.
        """
        lanes = await self._members(keys.LANES)
        names = sorted({lane.partition(":")[0] for lane in lanes})
        with redis_errors():
            async with self.redis.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.hmget(keys.ACCOUNT + name, ["state", "reason"])
                found = await pipe.execute()
        return {
            name: {"state": state.decode(), "reason": (reason or b"").decode()}
            for name, (state, reason) in zip(names, found, strict=True)
            if state is not None
        }

    async def try_account_again(self, line: str) -> None:
        """Let a stopped line send ONE job as a trial; its answer opens the line or stops it again.

        `line` is its fingerprint. A line that is open stays so.
        """
        key = keys.ACCOUNT + line
        with redis_errors():
            if await self.redis.execute_command("HGET", key, "state") == b"stopped":
                await self.redis.execute_command("HSET", key, "state", "trial")

    async def refused(self) -> int:
        """Return how many calls were ever answered with 429, over all lanes."""
        lanes = await self._members(keys.LANES)
        with redis_errors():
            async with self.redis.pipeline(transaction=False) as pipe:
                for lane in lanes:
                    pipe.hget(keys.LANE + lane, "hot")
                found = await pipe.execute()
        return sum(_refused.decode(hot).refused for hot in found if hot is not None)

    async def _members(self, key: str) -> list[str]:
        with redis_errors():
            async with self.redis.pipeline(transaction=False) as pipe:
                pipe.smembers(key)
                (found,) = await pipe.execute()
        return sorted(name.decode() for name in found)


@cache
def _script(name: str) -> str:
    lua = files("nightmill.queue").joinpath("lua")
    parts = (lua.joinpath(f"{part}.lua").read_text() for part in ("size", name))
    return wire.lua_prelude() + "".join(parts)
