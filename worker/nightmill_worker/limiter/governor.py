"""The governor: one worker of the fleet runs the law for every lane, a few times a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nightmill_worker.limiter.breaker import Breaker, watch
from nightmill_worker.limiter.law import Law, orders, step
from nightmill_worker.limiter.records import Caps, Gate, Observed, Orders
from nightmill_worker.limiter.utilisation import Reading, Utilisation, limits, read
from nightmill_worker.queue.lua_source import source

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
LANE_PARTS: Final = 4
"""What govern.lua returns of each lane."""


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
    meter: Utilisation = Utilisation()


_seen = msgspec.json.Decoder(Observed, strict=False)
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


def first_orders(caps: Caps) -> bytes:
    """Return the orders of a lane that nobody has used yet, as JSON."""
    return msgspec.json.encode(_published(orders(Law(), caps), Breaker(), 0))


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
        self, redis: Redis, *, account: str, worker: str, caps: Caps, rng: random.Random
    ) -> None:
        """Take a client, the line, this worker's name (it marks the lock), caps, and jitter."""
        self._redis = redis
        self._account = account
        self._worker = worker
        self._caps = caps
        self._rng = rng
        self._read, self._write = (redis.register_script(source(n)) for n in ("govern", "publish"))

    async def tick(self) -> bool:
        """Take or keep the place; having it, run the law for every lane. Tells whether we do."""
        told = await self._read(args=[self._account, self._worker, LOCK_MS])
        if told is None:
            return False
        seconds, micros, *lanes = told
        now = int(seconds) + int(micros) / 1e6
        given: list[bytes] = []
        for name, hot, kept, in_flight in zip(*[iter(lanes)] * LANE_PARTS, strict=True):
            seen = msgspec.structs.replace(_seen.decode(hot), in_flight=in_flight)
            given += [name, *self._govern(seen, _kept.decode(kept) if kept else Kept(), now)]
        if given:
            await self._write(args=[self._account, self._worker, *given])
        return True

    def _govern(self, seen: Observed, kept: Kept, now: float) -> tuple[bytes, bytes, bytes]:
        """Run the law for a lane; return what publish.lua writes of it."""
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
        encode = msgspec.json.encode
        return encode(after), encode(given), encode(_spent(reading))


def _spent(reading: Reading | None) -> dict[str, tuple[int, int]]:
    """Return batch -> milliseconds metered, and the share of them that the limit was used."""
    if reading is None:
        return {}
    metered_ms = 1000 * reading.seconds
    spent = (round(metered_ms), round(metered_ms * reading.share))
    return dict.fromkeys(reading.batches, spent)
