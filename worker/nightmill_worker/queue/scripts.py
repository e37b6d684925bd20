"""The worker's scripts as typed calls: claim, renew, settle, release, finish, sweep. I/O only.

Every call is repeated with growing waits until Redis answers it: Redis may drop the connection,
restart, load, fail over or be full. Claims are numbered, so a repeated one gets the same jobs.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec
from redis import exceptions

from nightmill.errors import QueueRefusedError
from nightmill.queue import keys
from nightmill.queue.patience import waits
from nightmill.queue.refusals import refusal
from nightmill_worker.events import Emit, RedisAway, RedisBack
from nightmill_worker.queue.lua_source import source
from nightmill_worker.queue.records import (
    Ask,
    Finish,
    Grant,
    GrantedJob,
    Held,
    Late,
    Lease,
    Release,
    Settlement,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript

T = TypeVar("T")

BACKOFF_S = (0.05, 2.0)
"""First and longest wait between two tries of a Redis that is away, seconds."""
ANSWERED_MS = 900_000
"""Lease of a job whose answer is on a disk, ms: long enough to restart its process."""
LARGEST_CALL = 500
"""Items in one script call: Redis serves no other client meanwhile."""


class RedisUnusableError(QueueRefusedError):
    """Redis refused this worker for good before its first claim: it cannot work; says the fix."""


class _Also(msgspec.Struct, rename={"account": "line"}):  # docs/wire.md keeps the name on the wire
    aborts: list[str] | dict[str, str]
    account: dict[str, str]
    held: dict[str, tuple[str, str]] = {}
    accepts: dict[str, str] = {}


_also = msgspec.json.Decoder(_Also)


NAMES: Final = (
    *("claim", "renew", "restore", "settle"),
    *("release", "release_dead", "finish", "sweep"),
)
"""The scripts of lua/ that every worker process uses."""


class Scripts:
    """The scripts of one worker process on one Redis."""

    def __init__(  # noqa: PLR0913 - a connection, and five facts by keyword
        self,
        redis: Redis,
        *,
        account: str,
        orders: bytes,
        lease_ms: int,
        canary: int,
        emit: Emit,
    ) -> None:
        """Take a client, the account's fingerprint and the lease's length.

        `orders` (JSON) are those of a lane without a governor so far. `canary` is how many
        identical failures in a row pause a batch, 0 for never.
        """
        self._redis = redis
        self._account = account
        self._orders = orders
        self._lease_ms = lease_ms
        self._canary = canary
        self._emit = emit
        self._away_since: float | None = None
        self._failing: dict[object, bool] = {}
        self.problem = ""
        """Why Redis does not do what was asked last, "" when it does."""
        self._answered = self._claimed = False
        self._registered = {name: redis.register_script(source(name)) for name in NAMES}

    @property
    def refused(self) -> bool:
        """Whether a call waits that Redis refuses for good: its jobs cannot end here now."""
        return any(self._failing.values())

    async def claim(self, ask: Ask) -> Grant:
        """Take up to `ask.want` jobs with their leases, slots and tokens."""
        now, wait, rest, *jobs = await self._run("claim", [msgspec.json.encode(ask), self._orders])
        self._claimed = True
        also = _also.decode(rest)
        return Grant(
            now_ms=now,
            wait_ms=wait,
            jobs=tuple(_claimed(row, now) for row in jobs),
            aborts=frozenset(also.aborts),
            account=also.account,
            held=also.held,
            accepts=also.accepts,
        )

    async def renew(self, leases: Sequence[Lease]) -> Late:
        """Prolong leases; return the ids that are not held any more."""
        late = Late()
        for some in _parts(leases):
            lengths = {"lease_ms": self._lease_ms, "answered_ms": ANSWERED_MS}
            request = {"account": self._account, **lengths, "items": some}
            late.add(await self._run("renew", [_json(request)]))
        return late

    async def restore(self, items: Sequence[Held], *, worker: str) -> set[str]:
        """Put jobs back that Redis has lost; return the ids that others hold or ended by now."""
        lost: set[str] = set()
        about = {"account": self._account, "worker": worker, "lease_ms": self._lease_ms}
        for some in _parts(items):
            bare = [msgspec.structs.replace(item, payload=b"") for item in some]
            args = [_json({**about, "items": bare}), *(item.payload for item in some)]
            lost.update(i.decode() for i in await self._run("restore", args))
        return lost

    async def settle(self, items: Sequence[Settlement]) -> bool:
        """Account for answers; return whether this stopped the account."""
        stopped = False
        for some in _parts(items):
            request = _json({"account": self._account, "items": some})
            stopped |= bool(await self._run("settle", [request, self._orders]))
        return stopped

    async def release(self, items: Sequence[Release]) -> Late:
        """Give jobs back; return the ids that are not held any more."""
        late = Late()
        for some in _parts(items):
            late.add(await self._run("release", [_json({"items": some})]))
        return late

    async def release_dead(self, worker: str) -> int:
        """End the leases of a worker whose process has ended; return how many there were."""
        released = 0
        for queue in [keys.QUEUE, *await self.command("SMEMBERS", keys.QUEUES)]:
            name = queue if isinstance(queue, str) else queue.decode(errors="replace")
            skip, more = 0, 1
            while more:
                about = {"worker": worker, "account": self._account, "queue": name, "skip": skip}
                some, skip, more = await self._run("release_dead", [_json(about)])
                released += some
        return released

    async def finish(self, items: Sequence[Finish]) -> set[str]:
        """Take finished jobs out of Redis; return the ids that other workers hold by now."""
        late: set[str] = set()
        for some in _parts(items):
            bare = [msgspec.structs.replace(item, kept=b"") for item in some]
            request = _json({"canary": self._canary, "items": bare})
            args = [request, *(item.kept for item in some)]
            late.update(i.decode() for i in await self._run("finish", args))
        return late

    async def sweep(self) -> list[str]:
        """Sweep the queues once (sweep.lua); return the ended batches that have jobs queued."""
        _, *ended = await self._run("sweep", [])
        return [batch.decode(errors="replace") for batch in ended]

    async def quarantine(self, job_id: str, payload: bytes) -> None:
        """Keep a copy of a payload that is no job; claim.lua keeps those that Lua cannot read."""
        if payload:
            await self.command("HSET", keys.QUARANTINE, job_id, payload)

    async def command(self, *words: str | int | bytes) -> Any:  # noqa: ANN401 - the command decides
        """Send one command; wait for a Redis that is away, as the scripts do."""
        return await self.persist(lambda: self._redis.execute_command(*words))

    async def _run(self, name: str, args: list[bytes]) -> Any:  # noqa: ANN401 - the script decides
        return await self.persist(lambda: self._evaluate(self._registered[name], args))

    async def _evaluate(self, script: AsyncScript, args: list[bytes]) -> Any:  # noqa: ANN401
        """Run a script by its hash, and send it to a server that does not know it.

        redis-py's wrappers of a command cost a worker more than the send does: they look up
        converters of the answer, and repeat what `persist` repeats anyway.
        """
        pool = self._redis.connection_pool
        connection = await pool.get_connection()
        try:
            await connection.send_command("EVALSHA", script.sha, 0, *args)
            return await connection.read_response()
        except exceptions.NoScriptError:
            pass
        finally:
            await pool.release(connection)
        return await script(args=args)

    async def persist(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat `call` until Redis answers it.

        An error that would come back for ever is raised only at the start, when the worker cannot
        work with these settings: a refusal until the first claim (RedisUnusableError), any other
        until the first answer. Later every error is a Redis that is away, since a failover, a lost
        replica or an operator's change must not end a worker that holds answers.
        """
        pauses = waits(*BACKOFF_S)
        this = object()
        try:
            while True:
                try:
                    answer = await call()
                except (exceptions.RedisError, OSError) as error:
                    self._gone(this, error)
                else:
                    self._answered = True
                    return answer
                await asyncio.sleep(next(pauses))
        finally:
            if self._failing:
                self._over(this)

    def _gone(self, call: object, error: Exception) -> None:
        """Note that a call failed. Raises when the worker cannot work with these settings."""
        fix = refusal(error)
        if fix and not self._claimed:
            raise RedisUnusableError(f"Redis refuses: {error}; {fix}") from error
        if not self._answered and not _passing(error):
            raise error
        news = self._away_since is None or (fix and not self.refused)
        self._failing[call] = bool(fix)
        if self._away_since is None:
            self._away_since = time.monotonic()
        if news:
            problem = str(error) or type(error).__name__
            self.problem = f"{problem}; {fix}" if fix else problem
            self._emit(RedisAway(problem=self.problem))

    def _over(self, call: object) -> None:
        """Note that a call failed no more, or is given up; Redis is back when none fails."""
        self._failing.pop(call, None)
        if not self._failing and self._away_since is not None:
            self._emit(RedisBack(after_s=time.monotonic() - self._away_since))
            self._away_since, self.problem = None, ""


_PASSING = (
    "LOADING",
    "READONLY",
    "OOM",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "BUSY",
    "MISCONF",
)


# redis-py takes the code word of these off their text.
_PASSING_TYPES = (
    exceptions.NoScriptError,  # forgotten again between redis-py's SCRIPT LOAD and its EVALSHA
    exceptions.ReadOnlyError,
    exceptions.OutOfMemoryError,
)


def _passing(error: Exception) -> bool:
    """Return whether time or an operator removes this error; others would come back for ever."""
    if isinstance(error, (exceptions.ConnectionError, exceptions.TimeoutError, OSError)):
        return True
    text = str(error)
    return isinstance(error, _PASSING_TYPES) or any(word in text[:200] for word in _PASSING)


def _json(request: dict[str, Any]) -> bytes:
    """Encode a script's request; text that is no UTF-8 must not keep a whole group from Redis."""
    try:
        return msgspec.json.encode(request)
    except UnicodeEncodeError:
        return msgspec.json.encode(_scrubbed(msgspec.to_builtins(request)))


def _scrubbed(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return `value` with lone surrogates replaced in every text."""
    match value:
        case str():
            return value.encode(errors="replace").decode()
        case dict():
            return {_scrubbed(key): _scrubbed(each) for key, each in value.items()}
        case list() | tuple():
            return [_scrubbed(each) for each in value]
    return value


def _parts(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[i : i + LARGEST_CALL] for i in range(0, len(items), LARGEST_CALL)]


def _claimed(row: list[bytes], now: int) -> GrantedJob:
    job_id, token, payload, queue, model, counted, refusals, snoozes, calls, *rest = row
    verdict, reservation, past, cut, outages, failed_at, lane = rest
    return GrantedJob(
        id=job_id.decode(errors="replace"),
        token=token.decode(),
        payload=payload,
        queue=queue.decode(errors="replace"),
        model=model.decode(errors="replace"),  # of a payload that is not validated yet
        counted=int(counted),
        refusals=int(refusals),
        snoozes=int(snoozes),
        calls=int(calls),
        verdict=verdict.decode(),  # type: ignore[arg-type]
        reservation=reservation,
        attempts=past,
        cut=cut,
        claimed_at=now,
        outages=int(outages),
        failed_at=int(failed_at),
        lane=lane.decode(errors="replace"),
    )
