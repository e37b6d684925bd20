"""The signs of life of workers: which run now, with which account, for which batch.

A worker writes its sign every BEAT_S. Everything that must know whether one runs asks here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.queue import keys
from nightmill.records.counts import text

if TYPE_CHECKING:
    from redis.asyncio import Redis

BEAT_S: Final = 5.0
"""A worker reports that it lives so often, seconds."""
ALIVE_S: Final = 3 * BEAT_S
"""A worker that reported within this time is running."""
FULL: Final = 0.95
"""Workers that hold this share of the jobs that they claim at once are full: the rest has just
ended, and the next claim replaces it."""
_SIGN: Final = re.compile(
    rb"(?P<at>\d{1,12}) running=(?P<running>\d{1,9}) held=(?P<held>\d{1,9})"
    rb"(?: account=(?P<account>\S+))?(?: only=(?P<only>.+))?",
    re.DOTALL,
)


class LiveWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker process that runs now."""

    name: str
    at: int
    """When it reported last, epoch seconds by Redis's clock."""
    running: int = 0
    """Calls that run."""
    held: int = 0
    """Jobs that it has claimed: its calls, and answers that wait for the store."""
    account: str | None = None
    """Its account; None for workers of older versions."""
    only: str | None = None
    """The one batch whose jobs it claims, None for all."""

    def serves(self, batch: str) -> bool:
        """Tell whether it claims jobs of `batch`."""
        return self.only in {None, batch}


def about(account: str, only: str | None) -> str:
    """Return what a worker adds to its sign of life: its account, and the batch that it serves."""
    return f" account={account}" + (f" only={only}" if only else "")


class Facts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a worker process tells about itself; a worker of an older version tells nothing."""

    version: str = ""
    host: str = ""
    pid: int = 0
    started_at: int = 0
    """Epoch ms."""
    memory: int = 0
    """Resident bytes; 0 where the system does not tell."""
    most: int = 0
    """Most jobs that it claims at once: MAX_IN_FLIGHT."""


_facts = msgspec.json.Decoder(Facts)


async def read_facts(redis: Redis, workers: Sequence[LiveWorker]) -> dict[str, Facts]:
    """Return the facts of those workers by name, also of one that has reported none.

    Raises redis-py's errors.
    """
    names = [worker.name for worker in workers]
    found = await redis.mget([keys.WORKER + name for name in names]) if names else []
    return {name: _read_facts(raw) for name, raw in zip(names, found, strict=True)}


def full(workers: Sequence[LiveWorker], facts: Mapping[str, Facts]) -> int:
    """Return how many jobs workers claim at once, when they have so many; 0 when they have less.

    0 also when a worker of an older version does not tell how many it claims.
    """
    mosts = [facts[worker.name].most for worker in workers]
    held = sum(worker.held for worker in workers)
    return sum(mosts) if all(mosts) and held and held >= sum(mosts) * FULL else 0


async def read_full(redis: Redis, workers: Sequence[LiveWorker]) -> int:
    """Return what `full` says of those workers. Raises redis-py's errors."""
    return full(workers, await read_facts(redis, workers))


def _read_facts(raw: bytes | None) -> Facts:
    try:
        return _facts.decode(raw or b"{}")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Facts()


async def read_live(redis: Redis) -> tuple[LiveWorker, ...]:
    """Return the workers that run now. Raises redis-py's errors."""
    seconds, _ = await redis.execute_command("TIME")
    signs = await redis.execute_command("HGETALL", keys.WORKERS)
    return live(signs, int(seconds))


def live(signs: dict[bytes, bytes] | list[bytes], now: int) -> tuple[LiveWorker, ...]:
    """Return the workers in a hash of signs that run `now`; what cannot be read is no sign."""
    pairs: Iterable[tuple[bytes, bytes]] = (
        signs.items() if isinstance(signs, dict) else zip(signs[::2], signs[1::2], strict=True)
    )
    return tuple(
        LiveWorker(
            name=text(name),
            at=int(found["at"]),
            running=int(found["running"]),
            held=int(found["held"]),
            account=text(found["account"]) if found["account"] else None,
            only=text(found["only"]) if found["only"] else None,
        )
        for name, sign in pairs
        if (found := _SIGN.fullmatch(sign)) and abs(now - int(found["at"])) <= ALIVE_S
    )
