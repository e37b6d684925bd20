"""What a lane does and why it is not faster, read from its hash (lane.lua and the governor)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.queue import keys
from nightmill.queue.connection import redis_errors

if TYPE_CHECKING:
    from redis.asyncio import Redis

MINUTE_S: Final = 60
UNITS: Final = {"requests": "requests", "input": "input tokens", "output": "output tokens"}

SENTENCES: Final = {
    "stopped": "Stopped: {reason}. Mend it, then `nightmill resume`.",
    "breaker": "The endpoint fails; calls wait, then one is tried.",
    "pause": "The endpoint refused a call; all wait another {left:.1f} s.",
    "window": "{window:,} calls in flight is as far as this lane has been let.",
    "pace": "Starting carefully: calls are spaced until the endpoint's limit shows.",
    "nothing": "Nothing holds it back: there is no more work, or too few workers.",
}


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """One bucket: units a second it lets through."""

    rate: float = 0.0


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """What the governor published."""

    window: int = 0
    gates: dict[str, Gate] = {}
    breaker: str = "closed"


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """What the endpoint's headers told of one dimension, units a minute."""

    limit: float = 0.0


class Hot(msgspec.Struct, frozen=True, kw_only=True):
    """What claims and settlements counted since the lane began; times are Redis's, seconds."""

    sent: int = 0
    ok: int = 0
    refused: int = 0
    failed: int = 0
    used_input: float = 0.0
    used_output: float = 0.0
    epoch: int = 0
    pause_until: float = 0.0
    bound: dict[str, int] = {}
    told: dict[str, Limit] = {}


class Lane(msgspec.Struct, frozen=True, kw_only=True):
    """One lane at one moment; `at` is Redis's clock, seconds."""

    line: str
    model: str
    at: float
    in_flight: int
    hot: Hot
    orders: Orders
    stopped: str | None = None

    @property
    def refused_share(self) -> float:
        """The share of answered calls that were 429s, 0 to 1."""
        answered = self.hot.ok + self.hot.refused + self.hot.failed
        return self.hot.refused / answered if answered else 0.0

    def limit(self, dimension: str) -> float | None:
        """Return the limit that is told, else the one learned or configured, units a minute."""
        if dimension in self.hot.told:
            return self.hot.told[dimension].limit
        gate = self.orders.gates.get(dimension)
        return gate.rate * MINUTE_S if gate else None


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """A lane between two moments: what it did, and what bound it."""

    before: Lane
    now: Lane

    @property
    def seconds(self) -> float:
        """How long it was looked at."""
        return max(1e-3, self.now.at - self.before.at)

    def rate(self, dimension: str) -> float:
        """Return what went through lately, units a minute."""
        name = {"requests": "ok", "input": "used_input", "output": "used_output"}[dimension]
        gained = getattr(self.now.hot, name) - getattr(self.before.hot, name)
        return float(gained / self.seconds * MINUTE_S)

    def used(self, dimension: str) -> float | None:
        """Return the share of the limit turned into results lately, None without a limit."""
        limit = self.now.limit(dimension)
        return self.rate(dimension) / limit if limit else None

    @property
    def binds(self) -> str:
        """What keeps the lane from being faster now."""
        now = self.now
        if now.stopped is not None:
            return "stopped"
        if now.orders.breaker != "closed":
            return "breaker"
        if now.hot.pause_until > now.at:
            return "pause"
        gains = {n: count - self.before.hot.bound.get(n, 0) for n, count in now.hot.bound.items()}
        gate = max(gains, key=lambda name: gains[name], default="")
        return gate if gains.get(gate) else "nothing"

    @property
    def why(self) -> str:
        """Say in a sentence why the lane is not faster."""
        now, binds = self.now, self.binds
        if binds in SENTENCES:
            return SENTENCES[binds].format(
                reason=now.stopped,
                left=max(0.0, now.hot.pause_until - now.at),
                window=now.orders.window,
            )
        source = "the endpoint says" if binds in now.hot.told else "learned or configured"
        return f"The limit of {now.limit(binds) or 0:,.0f} {UNITS[binds]} a minute ({source})."


async def read_lanes(redis: Redis) -> list[Lane]:
    """Return every lane as it stands, sorted. Raises QueueUnavailableError."""
    with redis_errors():
        seconds, micros = await redis.time()
        names = sorted(
            name.decode() for name in await redis.execute_command("SMEMBERS", keys.LANES)
        )
        return [await _read(redis, name, seconds + micros / 1e6) for name in names]


async def _read(redis: Redis, name: str, now: float) -> Lane:
    line, _, model = name.partition(":")
    key = keys.LANE + name
    async with redis.pipeline(transaction=True) as pipe:
        pipe.hmget(key, ["hot", "orders"])
        pipe.zcount(f"{key}:slots", now * 1000, "+inf")
        pipe.hmget(keys.ACCOUNT + line, ["state", "reason"])
        (hot, orders), in_flight, (state, reason) = await pipe.execute()
    return Lane(
        line=line,
        model=model,
        at=now,
        in_flight=in_flight,
        hot=msgspec.json.decode(hot or b"{}", type=Hot, strict=False),
        orders=msgspec.json.decode(orders or b"{}", type=Orders),
        stopped=(reason or b"").decode() if state == b"stopped" else None,
    )
