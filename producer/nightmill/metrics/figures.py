"""The figures of the whole fleet at one moment, read from Redis. Pure but for `read_figures`."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from nightmill.errors import QueueRefusedError, QueueUnavailableError
from nightmill.queue import keys
from nightmill.queue.batches import Batches
from nightmill.queue.connection import redis_errors
from nightmill.queue.crashes import read_troubles
from nightmill.queue.live_workers import read_live
from nightmill.records.counts import text
from nightmill.reports.lanes import SENTENCES, UNITS, Lane, read_lanes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterable, Mapping, Sequence

    from redis.asyncio import Redis

    from nightmill.records.counts import Counts

T = TypeVar("T")

OTHER: Final = "other"
"""The label of all lanes beyond MOST_LANES."""
MOST_LANES: Final = 32
"""Lanes with labels of their own. Users name models freely, and Prometheus keeps each label."""
LONGEST: Final = 100
"""Characters of a lane's name."""
ACCOUNT: Final = 6
"""Characters of an account, as `nightmill lanes` shows them."""
FIRST_DUE_MS: Final = 10**12
"""A lower score of a queued job is a rank, not a time: it is called next."""
REASONS: Final = (*SENTENCES, *UNITS)
"""What may limit a lane."""
_LOGGED: Final[set[tuple[str, type[Exception]]]] = set()
"""Parts that could not be read, and why: the log has them already."""
_log: Final = logging.getLogger(__name__)
STATES: Final = ("paused", "paused: budget", "cancelled", "expired", "feeding", "running", "done")


class Jobs(msgspec.Struct, frozen=True, kw_only=True):
    """The jobs and batches in Redis."""

    states: dict[str, int]
    """State (queued, in_flight, retrying, snoozed) -> jobs in Redis."""
    batches: dict[str, int]
    """State -> batches."""
    oldest_s: float
    """How long the job that is due longest has been due, seconds; 0 without one."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What Redis says of the fleet. None: Redis refuses it, or a key there has the wrong type."""

    workers: int | None
    troubles: int | None
    """Workers that run but cannot go on as they should."""
    jobs: Jobs | None
    lanes: tuple[Lane, ...] | None

    @property
    def unreadable(self) -> int:
        """How many parts could not be read."""
        return sum(part is None for part in msgspec.structs.astuple(self))


async def read_figures(redis: Redis) -> Figures:
    """Read each part by itself. Raises QueueUnavailableError when Redis does not answer."""
    return Figures(
        workers=await _part("workers", _workers(redis)),
        troubles=await _part("troubles", _troubles(redis)),
        jobs=await _part("jobs", _jobs(redis)),
        lanes=await _part("lanes", _lanes(redis)),
    )


async def _part(part: str, reading: Awaitable[T]) -> T | None:
    """Return what is read, None when Redis answers and it cannot be read.

    An exception that is not Redis's is a defect of ours, or a value that another program wrote: the
    log has the first of each kind, since each scrape meets it again.
    """
    try:
        return await reading
    except QueueRefusedError:
        return None
    except QueueUnavailableError:
        raise
    except Exception as error:  # noqa: BLE001 - one bad value must not take the others along
        if (kind := (part, type(error))) not in _LOGGED:
            _LOGGED.add(kind)
            _log.error("metrics: %s cannot be read", part, exc_info=error)
        return None


async def _workers(redis: Redis) -> int:
    with redis_errors():
        return len(await read_live(redis))


async def _troubles(redis: Redis) -> int:
    return len(await read_troubles(redis))


async def _lanes(redis: Redis) -> tuple[Lane, ...]:
    return tuple(await read_lanes(redis))


async def _jobs(redis: Redis) -> Jobs:
    batches = Batches(redis)
    counts = await batches.all()
    every = [await batches.counts(keys.SINGLES), *counts.values()]
    return Jobs(
        states={
            state: sum(getattr(each, state) for each in every)
            for state in ("queued", "in_flight", "retrying", "snoozed")
        },
        batches={**dict.fromkeys(STATES, 0), **Counter(each.state for each in counts.values())},
        oldest_s=await _oldest_s(redis, counts),
    )


async def _oldest_s(redis: Redis, counts: Mapping[str, Counts]) -> float:
    """Return how long the oldest due job waits; batches that are held or ended do not count."""
    with redis_errors():
        seconds, micros = await redis.time()
        found = await redis.execute_command("SMEMBERS", keys.QUEUES)
        waiting = [name for name in map(text, found) if not _held(name, counts)]
        async with redis.pipeline(transaction=False) as pipe:
            for queue in (keys.QUEUE, *waiting):
                words = (queue, FIRST_DUE_MS, "+inf", "WITHSCORES", "LIMIT", 0, 1)
                pipe.execute_command("ZRANGEBYSCORE", *words)
            heads = await pipe.execute(raise_on_error=False)
    now_ms = seconds * 1000 + micros / 1000
    ages: list[float] = [(now_ms - due) / 1000 for head in heads for due in _scores(head)]
    return max([0.0, *ages])


def _held(queue: str, counts: Mapping[str, Counts]) -> bool:
    batch = queue.removeprefix(f"{keys.QUEUE}:").partition(":")[0]
    return batch in counts and bool(counts[batch].flag)


def _scores(head: object) -> Iterable[float]:
    """Return the scores in an answer to ZRANGEBYSCORE, which depends on the protocol's version."""
    if not isinstance(head, list) or not head:
        return ()
    score = head[0][1] if isinstance(head[0], list | tuple) else head[1]
    return (float(score),)


class LaneNames:
    """Names lanes for Prometheus: MOST_LANES of them at most, whatever models users ask for."""

    def __init__(self) -> None:
        """Start without names."""
        self._named: set[tuple[str, str]] = set()

    def of(self, lane: Lane) -> tuple[str, str]:
        """Return the account and the name of a lane; OTHER for both once there are too many."""
        name = (lane.account[:ACCOUNT], lane.model[:LONGEST])
        if name not in self._named and len(self._named) >= MOST_LANES:
            return (OTHER, OTHER)
        self._named.add(name)
        return name


class LaneCounts:
    """Adds up what lanes have counted, by name. A sum never becomes less.

    The lanes of one name change: one was not used for a day, or Redis has lost it. A sum of what
    they show now would go back then, and Prometheus would count all of it again.
    """

    def __init__(self) -> None:
        """Start without counts."""
        self._last: dict[tuple[str, str], tuple[int, int]] = {}
        self._sums: dict[tuple[str, str], tuple[int, int]] = {}

    def add(self, name: tuple[str, str] | None, lane: Lane) -> None:
        """Add what a lane has gained; only note where it stands when it has no name now.

        A lane whose hash could not be read shows 0: that is not noted.
        """
        if not lane.hot.refilled_at:
            return
        key, now = (lane.account, lane.model), (lane.hot.sent, lane.hot.refused)
        if name is not None:
            sent, refused = self._sums.get(name, (0, 0))
            gains = _gains(self._last.get(key, (0, 0)), now)
            self._sums[name] = (sent + gains[0], refused + gains[1])
        self._last[key] = now

    def of(self, name: tuple[str, str]) -> tuple[int, int]:
        """Return the calls that were sent, and those that were refused."""
        return self._sums.get(name, (0, 0))

    def keep(self, lanes: Sequence[Lane]) -> None:
        """Forget where lanes stood that Redis does not have any more."""
        there = {(lane.account, lane.model) for lane in lanes}
        self._last = {key: counts for key, counts in self._last.items() if key in there}


def _gains(before: tuple[int, int], now: tuple[int, int]) -> tuple[int, int]:
    """Return what two counters gained.

    A lane that Redis has lost begins again at 0. A failover loses the last second of its counters:
    they step back a little, and nothing is gained.
    """
    if 2 * now[0] <= before[0]:
        return now
    return max(0, now[0] - before[0]), max(0, now[1] - before[1])
