"""Batches in Redis: their counts, control and limits; and the accounts their jobs use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Unpack

import msgspec

from nightmill.errors import BatchBusyError, BatchEndedError, BatchNotFoundError
from nightmill.pricing.cost import Prices
from nightmill.queue import keys, wire
from nightmill.queue.connection import redis_errors
from nightmill.queue.stops import read_stops
from nightmill.records.acceptance import changed, from_text, id_of, to_text
from nightmill.records.counts import Counts, read_counts, text
from nightmill.records.job import now_ms
from nightmill.records.limits import Change, Limits
from nightmill.records.state import BATCH_ENDED, BatchMove, BatchState

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nightmill.records.acceptance import Acceptance, Accepted
    from nightmill.settings import Settings


ROWS_S: Final = 15.0
"""Longest wait for the rows of an expired batch to be written before it may go on, seconds."""
ROWS_LOOK_S: Final = 0.1


class Batches:
    """The batches of one Redis. Every method raises QueueUnavailableError when Redis is away."""

    def __init__(self, redis: Redis) -> None:
        """Use a client that the caller closes."""
        self.redis = redis
        self._counts = redis.register_script(wire.script("counts"))
        self._reconcile = redis.register_script(wire.script("reconcile"))
        self._moves = redis.register_script(wire.script("move"))
        self._resume = redis.register_script(wire.script("resume"))

    async def counts(self, batch: str) -> Counts:
        """Return the counts of `batch` ("" for the single jobs); all zero when Redis has none."""
        return (await self._read([batch]))[0]

    async def counts_of(self, batches: Sequence[str]) -> dict[str, Counts]:
        """Return the counts of each of `batches`, in one command."""
        return dict(zip(batches, await self._read(batches), strict=True)) if batches else {}

    async def lacks_worker(self, batch: str) -> bool:
        """Tell whether jobs of `batch` wait, and no running worker would claim them."""
        stops = await read_stops(self.redis, [batch])
        return stops.no_worker(batch, await self.counts(batch))

    async def names(self) -> list[str]:
        """Return the names of the batches that were ever fed, sorted."""
        return [text(name) for name in await self._members(keys.BATCHES)]

    async def require(self, batch: str) -> None:
        """Raise BatchNotFoundError, which lists the known batches, unless `batch` is known."""
        names = await self.names()
        if batch not in names:
            known = ", ".join(names) or "none"
            raise BatchNotFoundError(f'no batch "{batch}"; batches: {known}')

    async def all(self) -> dict[str, Counts]:
        """Return every batch's counts, sorted by name."""
        names = await self._members(keys.BATCHES)
        return dict(zip(map(text, names), await self._read(names), strict=True))

    async def _read(self, names: Sequence[str | bytes]) -> list[Counts]:
        with redis_errors():
            return [read_counts(*found) for found in await self._counts(args=list(names))]

    async def make_known(self, batch: str) -> None:
        """Add `batch` to the known batches; its total is unknown until its source has ended."""
        key = keys.BATCH + batch
        with redis_errors():
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.sadd(keys.BATCHES, batch)
                pipe.hdel(key, "total")
                pipe.hsetnx(key, "created_at", str(now_ms()))
                await pipe.execute()

    async def pause(self, batch: str, reason: str) -> None:
        """Let workers claim no more jobs of `batch`; calls in flight finish.

        Raises BatchEndedError when it was cancelled or its deadline has passed.
        """
        await self._move(batch, BatchMove.PAUSE, reason)

    async def resume(self, batch: str) -> None:
        """Let workers claim jobs of `batch` again; its failures in a row are counted from 0.

        Raises BatchEndedError when it was cancelled or its deadline has passed.
        """
        await self._move(batch, BatchMove.RESUME)

    async def cancel(self, batch: str) -> None:
        """End `batch`: calls in flight finish, other jobs become `cancelled` rows without a call.

        Claims stop at once. The rows are written afterwards: see maintenance.cancellation. A batch
        that has ended stays as it is.
        """
        with suppress(BatchEndedError):
            await self._move(batch, BatchMove.CANCEL, "by nightmill cancel")

    async def expire(self, batch: str) -> None:
        """End `batch`, whose deadline has passed, as a claim of its jobs would do it.

        A batch that has ended stays as it is.
        """
        with suppress(BatchEndedError):
            await self._move(batch, BatchMove.EXPIRE, "its deadline has passed")

    async def without_canary(self, batch: str) -> None:
        """Let `batch` go on however many of its jobs fail alike."""
        await self._write(batch, canary="0")

    async def reopen(self, batch: str) -> None:
        """Let a cancelled `batch` go on: its cancelled jobs are to be retried.

        Any other batch stays as it is. Raises BatchEndedError when its deadline has passed.
        """
        await self._move(batch, BatchMove.REOPEN)

    async def end(self, batch: str, flag: str) -> None:
        """End `batch` as it had ended before Redis lost it; `flag` is `cancelled` or `expired`."""
        move = BatchMove.CANCEL if flag == BatchState.CANCELLED else BatchMove.EXPIRE
        with suppress(BatchEndedError):
            await self._move(batch, move, f"it was {flag} before Redis lost it")

    async def _move(self, batch: str, move: BatchMove, reason: str = "") -> None:
        """Change the state of `batch` (move.lua); a state without that move stays as it is.

        Raises BatchEndedError when the batch has ended and does not have that move, BatchBusyError
        when its rows are being written for longer than ROWS_S.
        """
        until = time.monotonic() + ROWS_S
        while True:
            with redis_errors():
                state, done = await self._moves(args=[batch, move, reason])
            if done == 1:
                return
            if done == 0:
                if state.decode() in BATCH_ENDED and move is not BatchMove.ADJUST:
                    raise BatchEndedError(batch, state.decode())
                return
            if time.monotonic() > until:
                message = f'the rows of batch "{batch}" are being written: try again in a minute'
                raise BatchBusyError(message)
            await asyncio.sleep(ROWS_LOOK_S)

    async def limit(self, batch: str, change: Change, *, settings: Settings) -> Limits:
        """Change the limits of `batch` from the next claim on, and return all its limits.

        A budget in dollars starts from the price of the model in `settings`. A batch that was
        paused by its budget or ended by its deadline is resumed; when the new limits do not allow
        another call, the next claim pauses or ends it again. Raises InvalidLimitError that names
        the limit.
        """
        before = await self.counts(batch)
        with redis_errors():
            seconds, _ = await self.redis.execute_command("TIME")
        prices = None
        if change.budget_usd is not None:
            prices = Prices(settings.prices).token_prices(settings.model)
        limits = change.over(before.limits, now_ms=int(seconds) * 1000, prices=prices)
        await self._write(batch, limits=msgspec.json.encode(limits).decode())
        await self._move(batch, BatchMove.ADJUST)
        return limits

    async def _write(self, batch: str, **fields: str) -> None:
        with redis_errors():
            async with self.redis.pipeline(transaction=False) as pipe:
                pipe.hset(keys.BATCH + batch, mapping=fields)
                await pipe.execute()

    async def total(self, batch: str, lines: int) -> int:
        """Return the total of `batch` when its source has `lines` jobs.

        It also includes jobs that other producers added to the batch.
        """
        return max(lines, (await self.counts(batch)).accepted)

    async def set_total(self, batch: str, total: int) -> None:
        """Record that the source of `batch` has ended, and how many jobs the batch has."""
        await self._write(batch, total=str(total))

    async def accept(self, batch: str, **given: Unpack[Accepted]) -> Acceptance:
        """Change what `batch` accepts from the next claim on, and return the whole acceptance.

        What is not given stays as it is. Raises InvalidAcceptanceError that names the field.
        """
        accept = changed(from_text((await self.counts(batch)).accept), given)
        text = to_text(accept) or "{}"
        await self._write(batch, accept=text, accept_id=id_of(text))
        return accept

    async def accept_of(self, batch: str) -> str:
        """Return what `batch` accepts, as JSON; "" for the default, or when Redis has lost it."""
        with redis_errors():
            found = await self.redis.execute_command("HGET", keys.BATCH + batch, "accept")
        return text(found or b"")

    async def remind(
        self, batch: str, *, total: int | None = None, limits: Limits, accept: str = ""
    ) -> None:
        """Make `batch` known again after Redis lost it; what Redis still knows stays."""
        key = keys.BATCH + batch
        with redis_errors():
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.sadd(keys.BATCHES, batch)
                pipe.hsetnx(key, "created_at", str(now_ms()))
                if total is not None:
                    pipe.hsetnx(key, "total", str(total))
                if limits != Limits():
                    pipe.hsetnx(key, "limits", msgspec.json.encode(limits).decode())
                if accept:
                    pipe.hsetnx(key, "accept", accept)
                    pipe.hsetnx(key, "accept_id", id_of(accept))
                await pipe.execute()

    async def forget(self, batch: str) -> None:
        """Remove all keys of `batch`, which has neither jobs nor rows."""
        with redis_errors():
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.srem(keys.BATCHES, batch)
                pipe.delete(keys.BATCH + batch, keys.QUEUES_OF + batch)
                pipe.delete(*(keys.history(span, f"batch:{batch}") for span in ("hour", "day")))
                await pipe.execute()

    async def set_ended(self, batch: str, before: int, fields: Mapping[str, int]) -> bool:
        """Set the counts of ended jobs; return whether they were set (see reconcile.lua).

        `before` is how many ended jobs Redis counted when `fields` were read from the store.
        """
        flat = [part for pair in fields.items() for part in pair]
        with redis_errors():
            return bool(await self._reconcile(args=[batch, before, *flat]))

    async def raise_spent(self, batch: str, fields: Mapping[str, int]) -> None:
        """Raise what was spent on `batch` to what the store knows, after Redis lost its memory."""
        flat = [part for pair in fields.items() for part in pair]
        with redis_errors():
            await self._reconcile(args=[batch, "", *flat])

    async def accounts(self) -> dict[str, dict[str, str]]:
        """Return account -> {"state", "reason"} for every account that is not open.

        An account is an endpoint with a credential, named by its fingerprint. Its state is
        `stopped`; `trial`: the next claim takes one job; or `trying`: that job is in flight.
        """
        lanes = await self._members(keys.LANES)
        names = sorted({lane.partition(b":")[0] for lane in lanes})
        with redis_errors():
            async with self.redis.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.execute_command("HMGET", keys.ACCOUNT.encode() + name, "state", "reason")
                found = await pipe.execute()
        return {
            text(name): {"state": text(state), "reason": text(reason or b"")}
            for name, (state, reason) in zip(names, found, strict=True)
            if state is not None
        }

    async def try_account_again(self, account: str) -> tuple[bool, int]:
        """Let a stopped account, and its stopped lanes, send ONE job each as a trial.

        The answers open or stop them. `account` is a fingerprint. What is not stopped stays as it
        is. Returns whether the account was stopped, and how many of its lanes were.
        """
        with redis_errors():
            stopped, lanes = await self._resume(args=[account])
        return bool(stopped), int(lanes)

    async def try_all_again(self) -> tuple[int, int]:
        """Let every stopped account and lane send ONE job as a trial; return how many of each."""
        stops = await read_stops(self.redis, [])
        stopped = {lane.account for lane in stops.lanes if lane.state == "stopped"}
        found = [await self.try_account_again(each) for each in stopped.union(stops.accounts)]
        return sum(was for was, _ in found), sum(lanes for _, lanes in found)

    async def _members(self, key: str) -> list[bytes]:
        with redis_errors():
            async with self.redis.pipeline(transaction=False) as pipe:
                pipe.smembers(key)
                (found,) = await pipe.execute()
        return sorted(found)
