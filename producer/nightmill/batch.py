"""What stands in Redis about batches: their counts, and the lines their jobs are sent over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from nightmill import keys, wire
from nightmill.connect import redis_errors
from nightmill.errors import BatchNotFoundError
from nightmill.job import now_ms
from nightmill.state import TERMINAL

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nightmill.store import ResultStore

State = Literal["paused", "cancelled", "feeding", "running", "done"]

_NUMBERS: Final = (
    *("in_flight", "retrying", "snoozed", "succeeded", "failed", "cancelled", "expired"),
    *("input_tokens", "output_tokens"),
)


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs of a batch are in each state, at one moment, and the tokens they took.

    `total` is None until the batch's source has ended. `feeding` tells whether a feeder is at
    work, `flag` is "paused" or "cancelled" when the batch is, `reason` why.
    """

    total: int | None = None
    queued: int = 0
    in_flight: int = 0
    retrying: int = 0
    snoozed: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    expired: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    feeding: bool = False
    flag: str = ""
    reason: str = ""

    @property
    def terminal(self) -> int:
        """Jobs that have their stored result."""
        return self.succeeded + self.failed + self.cancelled + self.expired

    @property
    def waiting(self) -> int:
        """Jobs in Redis that are not in flight."""
        return self.queued + self.retrying + self.snoozed

    @property
    def accepted(self) -> int:
        """Every job, wherever it stands."""
        return self.waiting + self.in_flight + self.terminal

    @property
    def drained(self) -> bool:
        """Whether no job is on its way; some may be missing all the same, or not be fed yet."""
        return not (self.waiting or self.in_flight)

    @property
    def done(self) -> bool:
        """Whether the source has ended and every job of it has its result."""
        return self.total is not None and self.terminal >= self.total and self.drained

    @property
    def state(self) -> State:
        """The batch's state in one word."""
        if self.flag:
            return "paused" if self.flag == "paused" else "cancelled"
        if self.feeding:
            return "feeding"
        ended = self.done or (self.total is None and self.drained)
        return "done" if ended else "running"


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
            return [_counts(*found) for found in await self._counts(args=list(names))]

    async def open(self, batch: str, store: ResultStore | None) -> None:
        """Make `batch` known before it is fed; its total is unknown until its source has ended.

        Where Redis knows nothing of it, its counts start from the rows in `store`.
        """
        await self.reconcile(batch, store)
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

    async def reconcile(self, batch: str, store: ResultStore | None) -> bool:
        """Set the counts of ended jobs from the rows in `store`; tell whether that was done.

        It is only done while no job of the batch is on its way, so that no job is counted twice.
        """
        before = await self.counts(batch)
        if store is None or (before.terminal and not before.drained):
            return False
        rows, usage = await store.counts(batch), await store.usage(batch)
        fields: dict[str, int] = {state: rows[state] for state in sorted(TERMINAL)}
        fields["input_tokens"] = usage.input_tokens + usage.cache_creation_input_tokens
        fields["output_tokens"] = usage.output_tokens
        flat = [part for pair in fields.items() for part in pair]
        with redis_errors():
            return bool(await self._reconcile(args=[batch, before.terminal, *flat]))

    async def lines(self) -> dict[str, dict[str, str]]:
        """Return fingerprint -> {"state", "reason"} of every line that is not simply open.

        A line is an endpoint with a credential; its state is stopped, trial or trying.
        """
        lanes = await self._members(keys.LANES)
        names = sorted({lane.partition(":")[0] for lane in lanes})
        with redis_errors():
            async with self.redis.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.hmget(keys.LINE + name, ["state", "reason"])
                found = await pipe.execute()
        return {
            name: {"state": state.decode(), "reason": (reason or b"").decode()}
            for name, (state, reason) in zip(names, found, strict=True)
            if state is not None
        }

    async def try_line_again(self, line: str) -> None:
        """Let a stopped line send ONE job as a trial; its answer opens the line or stops it again.

        `line` is its fingerprint. A line that is open stays so.
        """
        key = keys.LINE + line
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


def _counts(size: int, feeding: int, flat: Sequence[bytes]) -> Counts:
    """Read counts.lua's answer for one batch."""
    fields: Mapping[bytes, bytes] = dict(zip(flat[::2], flat[1::2], strict=True))
    numbers = {name: int(fields.get(name.encode(), 0)) for name in _NUMBERS}
    total = fields.get(b"total")
    under_way = numbers["in_flight"] + numbers["retrying"] + numbers["snoozed"]
    return Counts(
        **numbers,
        total=None if total is None else int(total),
        queued=size - under_way,
        feeding=bool(feeding),
        flag=fields.get(b"flag", b"").decode(),
        reason=fields.get(b"reason", b"").decode(),
    )


@cache
def _script(name: str) -> str:
    lua = files("nightmill").joinpath("lua")
    parts = (lua.joinpath(f"{part}.lua").read_text() for part in ("size", name))
    return wire.lua_prelude() + "".join(parts)
