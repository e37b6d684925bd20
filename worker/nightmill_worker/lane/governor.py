"""The governor: one worker of the fleet runs the law for every lane, a few times a second."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill import keys
from nightmill.wire import lua_prelude
from nightmill_worker.lane.breaker import Breaker, watch
from nightmill_worker.lane.law import Law, orders, step
from nightmill_worker.lane.meter import Meter, Reading, limits, read
from nightmill_worker.lane.terms import Caps, Gate, Orders, Seen

if TYPE_CHECKING:
    import random

    from redis.asyncio import Redis

    from nightmill.settings import Settings

TICK_S: Final = 0.1
"""How often the law runs, seconds."""
STAND_BY_S: Final = 0.4
"""How often the others look whether the governor is gone, seconds."""
LOCK_MS: Final = 1500
"""The governor's lock; another worker takes over when it runs out."""


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A lane's orders as claim.lua reads them; `round` counts the breaker's moves."""

    window: int
    gates: dict[str, Gate]
    reserves: bool
    pause: float
    breaker: str = "closed"
    round: int = 0


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What the governor remembers of a lane, in its hash: another may take over at any time."""

    law: Law = Law()
    breaker: Breaker = Breaker()
    round: int = 0
    meter: Meter = Meter()


_seen = msgspec.json.Decoder(Seen, strict=False)
_kept = msgspec.json.Decoder(Kept)


def caps_of(settings: Settings) -> Caps:
    """Return what the operator allows the lanes."""
    return Caps(
        requests=settings.rpm,
        input=settings.itpm,
        output=settings.otpm,
        window=settings.fleet_max_in_flight,
        polite=settings.polite,
    )


def first_orders(caps: Caps) -> msgspec.Raw:
    """Return the orders of a lane that nobody has used yet, as JSON."""
    return msgspec.Raw(msgspec.json.encode(_published(orders(Law(), caps), Breaker(), 0)))


def _published(given: Orders, breaker: Breaker, number: int) -> Published:
    return Published(
        window=given.window,
        gates=given.gates,
        reserves=given.reserves,
        pause=given.pause,
        breaker=breaker.state,
        round=number,
    )


class Governor:
    """Runs the law for the lanes of one line while it holds the lock."""

    def __init__(
        self, redis: Redis, *, line: str, worker: str, caps: Caps, rng: random.Random
    ) -> None:
        """Take a client, the line, this worker's name (it marks the lock), caps, and jitter."""
        self._redis = redis
        self._line = line
        self._worker = worker
        self._caps = caps
        self._rng = rng
        self._lock = f"{keys.GOVERNOR}{line}"
        self._script = redis.register_script(_source())

    async def tick(self) -> bool:
        """Take or keep the lock; holding it, run the law for every lane. Tells whether we do."""
        lanes = await self._script(keys=[self._lock], args=[self._worker, LOCK_MS])
        for member in lanes or ():
            name = member.decode()
            if name.startswith(f"{self._line}:"):
                await self._govern(keys.LANE + name)
        return lanes is not None

    async def _govern(self, lane: str) -> None:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.hmget(lane, ["hot", "kept"])
            pipe.zcard(f"{lane}:slots")
            pipe.time()
            (found, remembered), in_flight, (seconds, micros) = await pipe.execute()
        if found is None:
            return
        now = seconds + micros / 1e6
        seen = msgspec.structs.replace(_seen.decode(found), in_flight=in_flight)
        kept = _kept.decode(remembered) if remembered else Kept()
        law = step(kept.law, seen, now)
        breaker = watch(
            kept.breaker,
            calls=seen.ended,
            failed=seen.failed,
            trial=seen.trial_end,
            now=law.clock,
            chance=self._rng.random(),
        )
        number = kept.round + (breaker.state != kept.breaker.state)
        given = _published(orders(law, self._caps), breaker, number)
        meter, reading = read(kept.meter, seen, limits(law, self._caps), law.clock)
        after = Kept(law=law, breaker=breaker, round=number, meter=meter)
        await self._publish(lane, after, given, reading)

    async def _publish(
        self, lane: str, kept: Kept, given: Published, reading: Reading | None
    ) -> None:
        """Write what the lane goes by from now on, and its batches' share in what it used."""
        encode = msgspec.json.encode
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.execute_command("HSET", lane, "kept", encode(kept), "orders", encode(given))
            if reading is not None:
                metered_ms = 1000 * reading.seconds
                for batch in reading.batches:
                    pipe.hincrby(keys.BATCH + batch, "metered_ms", round(metered_ms))
                    pipe.hincrby(keys.BATCH + batch, "used_ms", round(metered_ms * reading.share))
            await pipe.execute()


def _source() -> str:
    return lua_prelude() + files("nightmill_worker").joinpath("lua/govern.lua").read_text()
