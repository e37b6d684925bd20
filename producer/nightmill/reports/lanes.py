"""What a lane does and what limits it, from its hash (written by lane.lua and the governor)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar

import msgspec

from nightmill.queue import keys
from nightmill.queue.connection import redis_errors
from nightmill.queue.stops import RESUME, HeldLane, read_stops
from nightmill.records.counts import text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from redis.asyncio import Redis

    from nightmill.records.counts import Counts

T = TypeVar("T")

MINUTE_S: Final = 60
UNITS: Final = {"requests": "requests", "input": "input tokens", "output": "output tokens"}
"""Dimension of a rate limit -> what it counts."""

SENTENCES: Final = {
    "stopped": "The {what} is stopped: {reason}",
    "held": "A call was refused, and other jobs are tried one at a time: {reason}",
    "breaker": "The endpoint fails. Calls wait, then one call tests it.",
    "pause": "The endpoint refused a call. All calls wait for another {left:.1f} s.",
    "window": "{window:,} calls in flight are the most that this lane allows so far.",
    "pace": "The lane starts slowly: calls are spaced until the endpoint's limits are known.",
    "nothing": "Nothing limits it: add workers, or raise MAX_IN_FLIGHT or --concurrency.",
}
"""What limits a lane, when it is no rate limit -> one sentence for people."""
FULL: Final = (
    "The workers are full at {full:,} jobs in flight: raise MAX_IN_FLIGHT, or add workers."
)


Waits: TypeAlias = Literal["now", "later", "no"]
"""Whether jobs wait that may be called now, or only jobs that wait for their next attempt."""
IDLE: Final[dict[Waits, str]] = {
    "no": "Idle: no jobs are waiting.",
    "later": "Failed or refused calls wait until they are tried again; no other jobs wait.",
}
"""Why a lane makes no calls although nothing limits it."""


def waits_of(counts: Iterable[Counts]) -> Waits:
    """Return what waits in batches."""
    found: Waits = "no"
    for each in counts:
        if each.queued:
            return "now"
        if each.waiting:
            found = "later"
    return found


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """One token bucket of a lane."""

    rate: float = 0.0
    """Units a second that it refills."""


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What the governor published for a lane."""

    window: int = 0
    """Most calls in flight."""
    gates: dict[str, Gate] = {}
    """By dimension."""
    breaker: str = "closed"
    """State of the circuit breaker: closed, open or half."""


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One dimension as the endpoint's headers reported it."""

    limit: float = 0.0
    """Units a minute."""


class Hot(msgspec.Struct, frozen=True, kw_only=True, rename={"reported": "told"}):
    """Counters of claims and settlements since the lane began; `told` in Redis is `reported`."""

    sent: int = 0
    ok: int = 0
    refused: int = 0
    """Calls that were answered 429."""
    failed: int = 0
    """Calls that were answered 5xx, or that broke off."""
    rejected: int = 0
    """Calls that were answered with an error of the request's own."""
    unsent: int = 0
    """Granted calls that were never made."""
    used_input: float = 0.0
    """Input tokens of calls that succeeded."""
    used_output: float = 0.0
    epoch: int = 0
    refilled_at: float = 0.0
    """When jobs were claimed for it last, epoch seconds of Redis."""
    pause_until: float = 0.0
    """Epoch seconds of Redis; no call is sent before."""
    bound: dict[str, int] = {}
    """What limited the lane -> how many claims it held back."""
    reported: dict[str, Limit] = {}
    """Dimension -> the limit in the endpoint's headers."""
    models: dict[str, object] = {}
    """The models of a lane that several share."""


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """One lane at one moment."""

    account: str
    """Hash of endpoint and credential."""
    model: str
    """The model, or the name of what several models share."""
    at: float
    """The moment, epoch seconds of Redis."""
    in_flight: int
    hot: Hot
    orders: Orders
    endpoint: str = ""
    """Host of the endpoint, "" when no worker has noted it."""
    stopped: str | None = None
    """Why the account is stopped, None when it is not."""
    hold: HeldLane | None = None
    """Why the lane itself is held or stopped, None when it is not."""

    @property
    def finished(self) -> int:
        """Calls that have an answer of any kind, since the lane began."""
        return self.hot.ok + self.hot.refused + self.hot.failed + self.hot.rejected

    @property
    def idle_s(self) -> float:
        """The time since a job was claimed for it last, seconds."""
        return self.at - self.hot.refilled_at

    @property
    def name(self) -> str:
        """The model, the endpoint's host and the start of the account."""
        at = f" at {self.endpoint}" if self.endpoint else ""
        return f"{self.model}{at} ({self.account[:6]})"

    @property
    def what_stops(self) -> str:
        """What is held or stopped: the account, the lane, or one model of several in it."""
        if self.stopped is not None:
            return "account"
        if self.hold is None or self.hold.model == self.model:
            return "lane"
        return f"model {self.hold.model} of the lane"

    @property
    def refused_share(self) -> float:
        """The share of answered calls that were 429s, 0 to 1."""
        answered = self.hot.ok + self.hot.refused + self.hot.failed
        return self.hot.refused / answered if answered else 0.0

    def limit(self, dimension: str) -> float | None:
        """Return the reported limit, else the learned or configured one, units a minute."""
        if dimension in self.hot.reported:
            return self.hot.reported[dimension].limit
        gate = self.orders.gates.get(dimension)
        return gate.rate * MINUTE_S if gate else None


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """A lane between two moments: what it did, and what limited it."""

    before: Lane
    now: Lane
    waits: Waits = "now"
    """Whether jobs wait in Redis, for any lane."""
    workers: int = 1
    """How many workers run."""
    full: int = 0
    """How many jobs they claim at once, when they have so many; 0 when they can claim more."""

    @property
    def seconds(self) -> float:
        """The time between the two moments."""
        return max(1e-3, self.now.at - self.before.at)

    def rate(self, dimension: str) -> float:
        """Return the throughput between the two moments, units a minute."""
        name = {"requests": "ok", "input": "used_input", "output": "used_output"}[dimension]
        gained = getattr(self.now.hot, name) - getattr(self.before.hot, name)
        return float(gained / self.seconds * MINUTE_S)

    def used(self, dimension: str) -> float | None:
        """Return the throughput as a share of the limit, None without a limit."""
        limit = self.now.limit(dimension)
        return self.rate(dimension) / limit if limit else None

    @property
    def limited_by(self) -> str:
        """What limits the lane now: a key of SENTENCES or of UNITS."""
        now = self.now
        if now.stopped is not None:
            return "stopped"
        if now.hold is not None:
            return now.hold.state
        if now.orders.breaker != "closed":
            return "breaker"
        if now.hot.pause_until > now.at:
            return "pause"
        gains = {n: count - self.before.hot.bound.get(n, 0) for n, count in now.hot.bound.items()}
        gate = max(gains, key=lambda name: gains[name], default="")
        return gate if gains.get(gate) else "nothing"

    @property
    def why(self) -> str:
        """One sentence about what limits the lane."""
        now, limited_by = self.now, self.limited_by
        if limited_by == "nothing" and (idle := IDLE.get(self.waits)):
            return idle
        if limited_by == "nothing" and not self.workers:
            return "Idle: no worker is running."
        if limited_by == "nothing" and self.full:
            return FULL.format(full=self.full)
        if limited_by in SENTENCES:
            reason = now.stopped or (now.hold.reason if now.hold else "")
            known = RESUME in reason or limited_by != "stopped"
            sentence = SENTENCES[limited_by].format(
                what=now.what_stops,
                reason=reason,
                left=max(0.0, now.hot.pause_until - now.at),
                window=now.orders.window,
            )
            return sentence if known else f"{sentence}. Fix that, then {RESUME}"
        source = (
            "the endpoint reports it" if limited_by in now.hot.reported else "learned or configured"
        )
        limit = now.limit(limited_by) or 0
        return f"The limit is {limit:,.0f} {UNITS[limited_by]} a minute ({source})."


def looks_between(
    before: Iterable[Lane], now: Iterable[Lane], *, waits: Waits, workers: int, full: int
) -> list[Look]:
    """Return a look at each lane of `now`; one that is new is compared with itself."""
    known = {(lane.account, lane.model): lane for lane in before}
    return [
        Look(
            before=known.get((lane.account, lane.model), lane),
            now=lane,
            waits=waits,
            workers=workers,
            full=full,
        )
        for lane in now
    ]


async def read_lanes(redis: Redis) -> list[Lane]:
    """Return every lane as it is now, sorted. Raises QueueUnavailableError."""
    with redis_errors():
        seconds, micros = await redis.time()
        names = sorted(await redis.execute_command("SMEMBERS", keys.LANES))
        hosts = await redis.execute_command("HGETALL", keys.ACCOUNTS)
        holds = {(lane.account, lane.model): lane for lane in (await read_stops(redis, [])).lanes}
        return [await _read(redis, name, seconds + micros / 1e6, holds, hosts) for name in names]


async def _read(
    redis: Redis,
    name: bytes,
    now: float,
    holds: Mapping[tuple[str, str], HeldLane],
    hosts: Mapping[bytes, bytes],
) -> Lane:
    account, _, model = name.partition(b":")
    key = keys.LANE.encode() + name
    async with redis.pipeline(transaction=True) as pipe:
        pipe.execute_command("HMGET", key, "hot", "orders")
        pipe.zcount(key + b":slots", now * 1000, "+inf")
        pipe.execute_command("HMGET", keys.ACCOUNT.encode() + account, "state", "reason")
        (hot, orders), in_flight, (state, reason) = await pipe.execute()
    counters = _decoded(hot, Hot)
    held = (holds.get((text(account), each)) for each in (text(model), *counters.models))
    return Lane(
        account=text(account),
        model=text(model),
        at=now,
        in_flight=in_flight,
        hot=counters,
        orders=_decoded(orders, Orders),
        endpoint=text(hosts.get(account, b"")),
        stopped=text(reason or b"") if state == b"stopped" else None,
        hold=next(filter(None, held), None),
    )


def _decoded(raw: bytes | None, kind: type[T]) -> T:
    """Return a part of a lane's hash; one that is missing or cannot be read is empty."""
    try:
        return msgspec.json.decode(raw or b"{}", type=kind, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return kind()
