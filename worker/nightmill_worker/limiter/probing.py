"""Finding a limit that nobody tells: hold what is known to pass, then try more, faster and faster.

Two of these run in a lane: `Probe` for the rate at which the endpoint's bucket refills, `Window`
for how many calls it lets run at once. Both pay for a try with a refusal at most, so both wait
between tries until enough calls have passed for the refusals to stay below 1 in 250 or so.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

CALLS_PER_REFUSAL: Final = 260
"""Calls that must pass for every refusal of the last try, those of the next try included."""
PATIENCE_S: Final = 40.0
"""A fast lane waits this long between tries: it has time to learn, and is refused less."""
ENOUGH: Final = 8
"""Calls between two refusals from which the refill between them can be read, roughly."""
SAVED: Final = 6.0
"""Refusals that a lane may save up in quiet times, to look again soon when readings differ."""
HELD: Final = 0.99
"""Share of the known rate that is used while nothing is tried."""
SLOWER: Final = (0.3, 0.7)
"""Bounds of the cut while the refill cannot be read yet."""
SLIGHTLY: Final = (0.8, 0.95)
"""The same of a bucket that is known to be small."""
SURER: Final = 4.0
"""A rate measured over this many calls is held for as many times more."""
AGREES: Final = 0.9
"""Two measurements in a row that differ by more are no knowledge yet: look again soon."""
FORGET: Final = 10
"""Refusals after which it is asked again whether the bucket is small."""
BEYOND: Final = 2.0
"""Never try more than this times what the endpoint gave since the last refusal."""
UNSURE: Final = 0.25
"""The first try above a rate that is hardly known."""
FIRST_STEP: Final = 0.02
"""The first try is this share above the known rate; it doubles every DOUBLING_S."""
DOUBLING_S: Final = 3.5
DOUBLING_CALLS: Final = 12.0
"""On a slow lane every DOUBLING_CALLS, so that each step shows what it is worth."""
PROOF: Final = 3.0
"""Calls beyond what the known rate allows, none refused: the rate is higher."""
CHARGED: Final = 2.0
"""What is on its way is charged within this many calls' lengths."""
RESTED: Final = 3.0
"""No try before this many lags have passed: what came due in one distorts the reading."""
SETTLED: Final = 3
"""Steps of the law that a larger window must stand without a refusal."""
SURE: Final = 64.0
"""A roof that holds for this many calls between tries is no accident."""
LARGEST: Final = 100_000.0


def affordable(rate: float) -> float:
    """Return how many calls must pass for a refusal in a lane of `rate` calls a second."""
    return max(CALLS_PER_REFUSAL, PATIENCE_S * rate)


class Probe(msgspec.Struct, frozen=True, kw_only=True):
    """A refill that was measured: `rate`, units a second.

    At `empty_at` a refusal showed the bucket empty; `calls`, `used` and `refused` are the lane's
    counters then, `proven_at` and `proven_used` those of the last proof that `rate` is too low.
    After `hold` calls more is tried, at first by the share `first`; `trying` counts doublings.
    `small` above 0: the bucket saves nothing up; below 0: it does, and how many refusals until that
    is asked again. `floor`, while a pace above it is tried to find out, is the refill read before.
    `lag` is how long calls went on being charged after a refusal, `credit` the refusals saved up.
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
    small: int = 0
    floor: float = 0.0
    lag: float = 0.0
    credit: float = SAVED

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
        held = self.rate if self.small > 0 else HELD * self.rate
        return max(held, min(self.rate * (1.0 + self.step), self.most)) if self.trying else held

    @property
    def step(self) -> float:
        """The share above `rate` that is being tried."""
        return float(min(1.0, self.first * 2.0 ** min(self.trying, 16.0)))

    def refill(self, now: float, used: float) -> float:
        """Return what came since the bucket was empty, units a second: never more than refills."""
        return (used - self.used) / max(1e-3, now - self.empty_at)

    def refuse(self, now: float, calls: float, used: float, refused: int) -> Probe:
        """Return what is known after a refusal: empty then and empty now, so the refill is n/dt.

        Unless the bucket is so small that it was full between: then the pace that passed just
        before is the better guess. Trying it once, with n/dt as the `floor`, shows which it is.
        """
        passed, refill = calls - self.calls, self.refill(now, used)
        small, spent = self._size(), refused - self.refused
        pace = self.rate * (1.0 + min(0.5 * self.step, self.step - self.first))
        pace = min(pace, BEYOND * refill) if self.trying and small >= 0 else 0.0
        credit = max(-1.0, min(SAVED, self.credit + passed / CALLS_PER_REFUSAL - spent))
        found = Probe.at(now, refill, calls, used, refused)
        found = msgspec.structs.replace(found, lag=self.lag / 2, credit=credit)
        if small == 0 and pace > (1.0 + FIRST_STEP) * refill:
            first = max(FIRST_STEP, self.step / 4)
            return msgspec.structs.replace(found, rate=pace, floor=refill, first=first)
        if small > 0 and pace > refill:
            hold, first = min(CALLS_PER_REFUSAL, 2 * passed), max(FIRST_STEP / 2, 1 / passed)
            return msgspec.structs.replace(found, rate=pace, small=small, hold=hold, first=first)
        if passed < ENOUGH:
            return self._slower(refill, small)
        found = msgspec.structs.replace(found, small=small)
        alike = AGREES < refill / max(1e-9, self.measured) < 1 / AGREES
        if not alike and (refill > self.measured or credit > 0 or self.lag > DOUBLING_S):
            return found
        budget = affordable(passed / max(1e-3, now - self.empty_at)) * min(3, max(1, spent))
        tried = max(0.0, passed - self.hold) if self.trying else 0.0
        hold = min(max(budget / 2, budget - tried), SURER * passed)
        return msgspec.structs.replace(found, hold=hold, first=max(FIRST_STEP, 1 / passed))

    def differs(self, old: Probe) -> float:
        """Return how much this reading differs from an older one, as a share either way."""
        return abs(math.log(max(1e-9, self.measured) / max(1e-9, old.measured)))

    def owe(self, now: float, latency: float) -> Probe:
        """Return what is known when nothing was let in since the refusal at `empty_at`.

        The bucket is below empty: it does save up, its refill may not be tried beyond yet, and
        what is tried shows only after a `lag`.
        """
        lag = min(now - self.empty_at, CHARGED * latency)
        return msgspec.structs.replace(
            self, rate=self.floor or self.rate, floor=0.0, small=-FORGET, lag=lag
        )

    def _slower(self, refill: float, small: int) -> Probe:
        """Return the probe after too few calls to read the refill: cut, within bounds."""
        low, high = SLIGHTLY if self.small > 0 else SLOWER
        rate = self.floor or max(low * self.now, min(high * self.now, refill))
        return msgspec.structs.replace(
            self,
            rate=rate,
            most=BEYOND * rate,
            trying=0.0,
            hold=2 * ENOUGH,
            first=UNSURE,
            small=small,
            floor=0.0,
        )

    def _size(self) -> int:
        """Return what a refusal says of the bucket: above 0 small, below 0 not, 0 ask again."""
        if self.floor:
            return -FORGET
        if self.small > 0:
            return int(self.trying > 0)
        return min(0, self.small + 1)

    def grow(self, now: float, passed: float, calls: float, used: float, bound: bool) -> Probe:  # noqa: FBT001
        """Return what is known `passed` seconds later without a refusal."""
        need = max(1e-9, (used - self.used) / max(1.0, calls - self.calls))
        if self.floor:  # tried above it: had it been the refill, so much would never have passed
            spare = self.floor * (now - self.empty_at) - (used - self.used)
            proven = spare < -PROOF * need
            return msgspec.structs.replace(self, floor=0.0, small=1) if proven else self
        resting = calls - self.calls < self.hold or now - self.empty_at < RESTED * self.lag
        if not bound or resting:
            return self
        spare = self.rate * (now - self.proven_at) - (used - self.proven_used)
        most = max(self.most, BEYOND * self.refill(now, used))
        doublings = passed * min(1 / max(DOUBLING_S, self.lag), self.now / need / DOUBLING_CALLS)
        tried = msgspec.structs.replace(self, trying=self.trying + doublings, most=most)
        if spare > -PROOF * need:
            return tried
        trying = tried.trying - (1.0 if self.small >= 0 else 0.0)
        return msgspec.structs.replace(
            tried, rate=self.now, trying=trying, proven_at=now, proven_used=used
        )


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

    @property
    def known(self) -> bool:
        """Whether the roof is so well known that a refusal below it means that it fell."""
        return self.pause >= CALLS_PER_REFUSAL

    def new(self, in_flight: int) -> bool:
        """Tell whether this many in flight were not known to pass: a record, or a try's doing."""
        return in_flight > self.peak or 0 < self.roof <= min(in_flight, self.size - 1)

    def refuse(self, size: float, latency: float, *, passed: bool) -> Window:
        """Return the window after a refusal that `size` calls in flight would not have met.

        `passed`: as many are known to pass, at least they did before.
        """
        size = max(1.0, size)
        again = 0.9 * self.roof <= size <= 1.1 * self.roof
        pause = 4.0 * self.pause if again else max(min(size, SURE / 4), self.pause / 2)
        pause = min(affordable(size / max(1e-3, latency)), pause)
        return Window(size=size, roof=size, peak=size if passed else 0.0, hold=pause, pause=pause)

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
