"""The governor: one worker of the fleet runs the law for every lane, ten times a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from nightmill_worker.events import Emit, failed_loop
from nightmill_worker.limiter.breaker import Breaker, watch
from nightmill_worker.limiter.law import Law, step
from nightmill_worker.limiter.orders import orders
from nightmill_worker.limiter.records import Caps, Gate, Observed, Orders
from nightmill_worker.limiter.utilisation import Reading, Utilisation, limits, measure
from nightmill_worker.queue.lua_source import source

if TYPE_CHECKING:
    import random

    from redis.asyncio import Redis

    from nightmill.settings import Settings

TICK_S: Final = 0.1
"""How often the law runs, seconds."""
STAND_BY_S: Final = 1.0
"""How often another worker checks whether the governor still lives, seconds."""
LOCK_MS: Final = 1500
"""Length of the governor's lock, milliseconds. When it runs out, another worker takes over."""
LANE_PARTS: Final = 4
"""How many values govern.lua returns for each lane."""
REPORT_S: Final = 60.0
"""An event reports the same lane's unusable state this often at most, seconds."""
_Written: TypeAlias = tuple[bytes, bytes, bytes]


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A lane's orders as claim.lua reads them. See Orders for the first four."""

    window: int
    gates: dict[str, Gate]
    reserves: bool
    pause: float
    breaker: str = "closed"
    """closed, open or half."""
    round: int = 0
    """Counts the changes of the breaker's state: a new number makes lane.lua forget the trial."""


class Kept(msgspec.Struct, frozen=True, kw_only=True, rename={"utilisation": "meter"}):
    """What the governor stores in a lane's hash, so that another worker can take over."""

    law: Law = Law()
    breaker: Breaker = Breaker()
    round: int = 0
    """See Published."""
    utilisation: Utilisation = Utilisation()


_observed = msgspec.json.Decoder(Observed, strict=False)
_kept = msgspec.json.Decoder(Kept)


def caps_of(settings: Settings) -> Caps:
    """Return what the operator allows each lane."""
    return Caps(
        requests=settings.rpm,
        input=settings.itpm,
        output=settings.otpm,
        window=settings.fleet_max_in_flight,
        polite=settings.polite,
    )


def first_orders(caps: Caps) -> bytes:
    """Return the orders of a lane that has never been used, as JSON."""
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
    """Runs the law for the lanes of one account while this worker holds the lock."""

    def __init__(  # noqa: PLR0913 - a connection, and five facts by keyword
        self,
        redis: Redis,
        *,
        account: str,
        worker: str,
        caps: Caps,
        rng: random.Random,
        emit: Emit,
    ) -> None:
        """Take a client, the account's fingerprint, the worker's name (the lock's value), and caps.

        `rng` gives the breaker's jitter. `emit` takes the events of lanes that start afresh.
        """
        self._redis = redis
        self._account = account
        self._worker = worker
        self._caps = caps
        self._rng = rng
        self._emit = emit
        self._reported: dict[bytes, float] = {}
        self.idle = False
        """Whether no lane had a call in flight at the last tick."""
        self._read, self._write = (redis.register_script(source(n)) for n in ("govern", "publish"))

    async def tick(self) -> bool:
        """Take or keep the lock; with it, run the law for every lane. Return whether we hold it."""
        found = await self._read(args=[self._account, self._worker, LOCK_MS])
        if found is None:
            return False
        seconds, micros, *lanes = found
        now = int(seconds) + int(micros) / 1e6
        self.idle = not any(lanes[LANE_PARTS - 1 :: LANE_PARTS])
        given: list[bytes] = []
        for name, hot, kept, in_flight in zip(*[iter(lanes)] * LANE_PARTS, strict=True):
            given += [name, *self._govern(name, hot, kept, in_flight, now)]
        if given:
            await self._write(args=[self._account, self._worker, *given])
        return True

    def _govern(self, name: bytes, hot: bytes, kept: bytes, in_flight: int, now: float) -> _Written:
        """Run the law for one lane; return what publish.lua writes for it.

        A lane whose stored state cannot be used starts afresh. The other lanes go on.
        """
        observed = Observed(in_flight=in_flight)
        try:
            observed = msgspec.structs.replace(_observed.decode(hot), in_flight=in_flight)
            return self._step(observed, _kept.decode(kept) if kept else Kept(), now)
        except Exception as error:  # noqa: BLE001 - the state of one lane must not stop the others
            if abs(now - self._reported.get(name, -REPORT_S)) >= REPORT_S:
                self._reported[name] = now
                loop = f"govern {name.decode(errors='replace')}"
                self._emit(failed_loop(loop, error, TICK_S))
            return self._step(observed, _afresh(observed), now)

    def _step(self, observed: Observed, kept: Kept, now: float) -> _Written:
        """Return the lane's state, its orders, and its use of the limit, as JSON."""
        law = step(kept.law, observed, now)
        observed = law.observed
        breaker = watch(
            kept.breaker,
            calls=observed.ended,
            failed=observed.failed,
            trial=observed.trial_end,
            now=law.clock,
            chance=self._rng.random(),
            length=law.latency,
        )
        number = kept.round + (breaker.state != kept.breaker.state)
        given = _published(orders(law, self._caps), breaker, number)
        known = limits(law, self._caps)
        utilisation, reading = measure(kept.utilisation, observed, known, law.clock)
        after = Kept(law=law, breaker=breaker, round=number, utilisation=utilisation)
        encode = msgspec.json.encode
        return encode(after), encode(given), encode(_spent(reading))


def _afresh(observed: Observed) -> Kept:
    """Return the state of a lane that begins now: what happened before is not looked at."""
    observed = observed.within_bounds()
    breaker = Breaker(calls=observed.ended, failed=observed.failed)
    return Kept(law=Law(observed=observed), breaker=breaker)


def _spent(reading: Reading | None) -> dict[str, tuple[int, int]]:
    """Return batch -> (milliseconds measured, those milliseconds times the share used)."""
    if reading is None:
        return {}
    metered_ms = 1000 * reading.seconds
    spent = (round(metered_ms), round(metered_ms * reading.share))
    return dict.fromkeys(reading.batches, spent)
