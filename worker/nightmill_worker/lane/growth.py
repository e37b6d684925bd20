"""Finding a limit that nobody tells: hold what is known to pass, then try more, faster and faster.

Two of these run in a lane: `Probe` for the rate at which the endpoint's bucket refills, `Window`
for how many calls it lets run at once. Both pay for a try with a refusal at most, so both wait
between tries until enough calls have passed for the refusals to stay below 1 in 250 or so.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

CALLS_PER_REFUSAL: Final = 300
"""Calls that must pass for every refusal of the last try before the next one."""
ENOUGH: Final = 8
"""Calls between two refusals from which the refill between them can be read, roughly."""
HELD: Final = 0.99
"""Share of the known rate that is used while nothing is tried."""
SLOWER: Final = (0.3, 0.7)
"""Bounds of the cut while the refill cannot be read yet."""
AGREES: Final = 0.9
"""Two measurements in a row that differ by more are no knowledge yet: look again soon."""
BEYOND: Final = 2.0
"""Never try more than this times what the endpoint gave since the last refusal."""
UNSURE: Final = 0.25
"""The first try above a rate that is hardly known."""
FIRST_STEP: Final = 0.02
"""The first try is this share above the known rate; it doubles every DOUBLING_S."""
DOUBLING_S: Final = 5.0
DOUBLING_CALLS: Final = 12.0
"""On a slow lane every DOUBLING_CALLS, so that each step shows what it is worth."""
PROOF: Final = 3.0
"""Calls beyond what the known rate allows, none refused: the rate is higher."""
SETTLED: Final = 3
"""Steps of the law that a larger window must stand without a refusal."""
SURE: Final = 64.0
"""A roof that holds for this many calls between tries is no accident."""
LARGEST: Final = 100_000.0


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """A refill that was measured: `rate`, units a second.

    At `empty_at` a refusal showed the bucket empty; `calls`, `used` and `refused` are the lane's
    counters then, `proven_at` and `proven_used` those of the last proof that `rate` is too low.
    After `hold` calls more is tried, at first by the share `first`; `trying` counts doublings.
    """

    rate: float
    empty_at: float
    calls: float
    used: float
    refused: int
    proven_at: float
    proven_used: float
    hold: float = ENOUGH
    first: float = UNSURE
    trying: float = 0.0
    most: float = 0.0
    measured: float = 0.0

    @classmethod
    def at(cls, now: float, rate: float, calls: float, used: float, refused: int) -> Probe:
        """Return what is known after a first refusal: the bucket is empty, `rate` is a guess."""
        return cls(
            rate=rate,
            empty_at=now,
            calls=calls,
            used=used,
            refused=refused,
            proven_at=now,
            proven_used=used,
            most=BEYOND * rate,
            measured=rate,
        )

    @property
    def now(self) -> float:
        """The rate to send at, units a second."""
        if not self.trying:
            return HELD * self.rate
        return max(HELD * self.rate, min(self.rate * (1.0 + self.step), self.most))

    @property
    def step(self) -> float:
        """The share above `rate` that is being tried."""
        return float(min(1.0, self.first * 2.0 ** min(self.trying, 16.0)))

    def refill(self, now: float, used: float) -> float:
        """Return what came since the bucket was empty, units a second: never more than refills."""
        return (used - self.used) / max(1e-3, now - self.empty_at)

    def refuse(self, now: float, calls: float, used: float, refused: int) -> Probe:
        """Return what is known after a refusal: empty then and empty now, so the refill is n/dt."""
        passed, rate = calls - self.calls, self.refill(now, used)
        if passed < ENOUGH:
            low, high = SLOWER
            rate = max(low * self.now, min(high * self.now, rate))
            return msgspec.structs.replace(
                self, rate=rate, most=BEYOND * rate, trying=0.0, hold=2 * ENOUGH, first=UNSURE
            )
        if self.proven_at > self.empty_at:  # a bucket too small to save calls up gave less
            rate = math.sqrt(rate * max(rate, self.rate))
        found = Probe.at(now, rate, calls, used, refused)
        if not AGREES < rate / max(1e-9, self.measured) < 1 / AGREES:
            return found
        budget = CALLS_PER_REFUSAL * max(1, refused - self.refused)
        hold = min(budget, ENOUGH * passed)
        return msgspec.structs.replace(found, hold=hold, first=max(FIRST_STEP, 1 / passed))

    def grow(self, now: float, passed: float, calls: float, used: float, bound: bool) -> Probe:  # noqa: FBT001
        """Return what is known `passed` seconds later without a refusal."""
        if not bound or calls - self.calls < self.hold:
            return self
        need = max(1e-9, (used - self.used) / max(1.0, calls - self.calls))
        spare = self.rate * (now - self.proven_at) - (used - self.proven_used)
        most = max(self.most, BEYOND * self.refill(now, used))
        doublings = passed * min(1 / DOUBLING_S, self.now / need / DOUBLING_CALLS)
        tried = msgspec.structs.replace(self, trying=self.trying + doublings, most=most)
        if spare > -PROOF * need:
            return tried
        return msgspec.structs.replace(tried, rate=self.now, proven_at=now, proven_used=used)


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """How many calls may be in flight: `size`, doubling per round trip until a `roof` is known.

    `peak` is the most that were in flight unrefused since the last refusal. Under a roof, `hold`
    calls pass before `size` is tried `step` larger; `stood` counts the law's steps it has.
    """

    size: float = 16.0
    roof: float = 0.0
    peak: float = 0.0
    hold: float = 0.0
    pause: float = 0.0
    step: float = 1.0
    stood: int = 0

    @property
    def sure(self) -> bool:
        """Whether the roof was met again and again."""
        return self.pause >= SURE

    def new(self, in_flight: int) -> bool:
        """Tell whether this many in flight were not known to pass: a record, or a try's doing."""
        return in_flight > self.peak or 0 < self.roof <= min(in_flight, self.size - 1)

    def refuse(self, size: float) -> Window:
        """Return the window after a refusal that `size` calls in flight would not have met."""
        size = max(1.0, size)
        again = 0.9 * self.roof <= size <= 1.1 * self.roof
        pause = min(CALLS_PER_REFUSAL, 4.0 * self.pause) if again else min(size, SURE / 4)
        return Window(size=size, roof=size, peak=size, hold=pause, pause=pause)

    def grow(self, answered: int, in_flight: int, *, bound: bool) -> Window:
        """Return the window after `answered` calls without a refusal; only a bound one grows."""
        peak = max(self.peak, in_flight)
        size, hold, step, stood, roof = self.size, self.hold, self.step, self.stood, self.roof
        if bound and not roof:
            size = min(LARGEST, size + min(answered, size))
        elif bound and size <= roof:
            hold -= answered
            size = roof + step if hold <= 0 else size
        elif bound:
            stood += 1
            if stood >= SETTLED:
                roof, step, stood = size, 2 * step, 0
                size = roof + step
        return Window(
            size=size, roof=roof, peak=peak, hold=hold, pause=self.pause, step=step, stood=stood
        )
