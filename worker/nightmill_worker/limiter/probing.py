"""Probing for a limit that no header reports: the rate at which a bucket of the endpoint refills.

The rate that is known to be accepted is used for a while. Then a little more is tried, and the
trial doubles until a refusal. A refusal is the price of a trial. So the time between two trials is
long enough to keep refusals below about 1 in 250 calls. window.py does the same for the number of
calls in flight. Pure.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

from nightmill_worker.limiter.bounds import LEAST_RATE

CALLS_PER_REFUSAL: Final = 260
"""Calls that must be accepted for each refusal of the last trial. The next trial's calls count."""
PATIENCE_S: Final = 40.0
"""Least time between trials on a fast lane, seconds. It has many calls, and needs few refusals."""
READABLE_CALLS: Final = 8
"""From this many calls between two refusals on, the refill between them can be measured roughly."""
SAVED_REFUSALS: Final = 6.0
"""Refusals that a lane may save up while it has few. It spends them on earlier trials."""
HELD_SHARE: Final = 0.99
"""Share of the known rate that is used while nothing is tried."""
CUT: Final = (0.3, 0.7)
"""After too few calls to measure the refill, the rate is cut to a share between these two."""
SMALL_CUT: Final = (0.8, 0.95)
"""The same for a bucket that is known to be small."""
SMALL_BUCKET_S: Final = 0.25
"""A small bucket holds the refill of about this many seconds."""
HOLD_FACTOR: Final = 4.0
"""A rate measured over n calls is used for at most n times this many calls before a trial."""
AGREEMENT: Final = 0.9
"""Two measurements in a row agree when their quotient is nearer to 1 than this."""
RECHECK_REFUSALS: Final = 10
"""After this many refusals, the question whether the bucket is small is asked again."""
LARGEST_PROBE: Final = 2.0
"""A trial never exceeds this many times what the endpoint accepted since the last refusal."""
UNSURE_STEP: Final = 0.25
"""The first trial above a rate that is hardly known, as a share of the rate."""
FIRST_STEP: Final = 0.02
"""The first trial above a known rate, as a share of the rate."""
DOUBLING_S: Final = 3.5
"""The share doubles in this many seconds."""
DOUBLING_CALLS: Final = 12.0
"""On a slow lane it doubles in this many calls, so that each step can show a result."""
PROOF_CALLS: Final = 3.0
"""This many calls more than the known rate allows, none refused, prove that the rate is higher."""
CHARGE_LATENCIES: Final = 2.0
"""Calls on their way are charged within this many times the length of a call."""
DEBT_S: Final = 3.5
"""A bucket that refuses for less than this is not surely below empty: one call may take as long."""
MEASURED_DEBT_S: Final = 20.0
"""A debt of at least this length measures the refill, seconds."""
REST_LAGS: Final = 3.0
"""After a debt, no trial before this many lags: charges that came late distort the measurement."""
LEAST: Final = 1e-9
"""Stands for 0 where a division needs a number above 0."""


def affordable(rate: float) -> float:
    """Return how many calls must pass for each refusal on a lane of `rate` calls a second."""
    return max(CALLS_PER_REFUSAL, PATIENCE_S * rate)


class Probe(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={"first_step": "first", "doublings": "trying", "ceiling": "most"},
):
    """What is known of one bucket's refill, stored with the lane. Rates are units a second."""

    rate: float
    """The refill that is known to be accepted."""
    empty_at: float
    """When the last refusal showed the bucket empty, by the law's clock, seconds."""
    calls: float
    """The lane's counter of accepted calls at that refusal."""
    used: float
    """The lane's counter of used units at that refusal."""
    refused: int
    """The lane's counter of refused calls at that refusal."""
    proven_at: float
    """When it was last proven that `rate` is too low, by the law's clock, seconds."""
    proven_used: float
    """The lane's counter of used units then."""
    hold: float = READABLE_CALLS
    """Calls that must be accepted after the refusal before more than `rate` is tried."""
    first_step: float = UNSURE_STEP
    """The first trial above `rate`, as a share of it."""
    doublings: float = 0.0
    """How often the trial's share doubled; 0 while nothing is tried."""
    ceiling: float = 0.0
    """The highest rate that may be tried."""
    measured: float = 0.0
    """The refill as measured between the last two refusals."""
    small: int = 0
    """Above 0: the bucket is too small to save anything up. Below 0: it is not, and this many more
    refusals pass before that is checked again. 0: check at the next refusal."""
    floor: float = 0.0
    """While a higher pace is tried to find out whether the bucket is small: the measured refill to
    go back to. Else 0."""
    lag: float = 0.0
    """How long calls went on being charged after a refusal, seconds."""
    credit: float = SAVED_REFUSALS
    """Refusals that are saved up."""

    @classmethod
    def at(cls, now: float, rate: float, calls: float, used: float, refused: int) -> Probe:
        """Return what is known after a first refusal: the bucket is empty, `rate` is a guess."""
        rate = max(LEAST_RATE, rate)
        return cls(
            rate=rate,
            empty_at=now,
            calls=calls,
            used=used,
            refused=refused,
            proven_at=now,
            proven_used=used,
            ceiling=LARGEST_PROBE * rate,
            measured=rate,
        )

    @property
    def send_rate(self) -> float:
        """The rate to send at."""
        held = max(LEAST_RATE, self.rate if self.small > 0 else HELD_SHARE * self.rate)
        if not self.doublings:
            return held
        return max(held, min(self.rate * (1.0 + self.step), self.ceiling))

    @property
    def step(self) -> float:
        """The share above `rate` that is tried now, at most 1."""
        return float(min(1.0, self.first_step * 2.0 ** min(self.doublings, 16.0)))

    def refill(self, now: float, used: float) -> float:
        """Return what was used a second since the bucket was empty: at most the refill."""
        return max(0.0, used - self.used) / max(1e-3, now - self.empty_at)

    def after_refusal(
        self, now: float, calls: float, used: float, refused: int, paused: float = 0.0
    ) -> Probe:
        """Return what is known after another refusal, with the lane's counters at this moment.

        `paused` is how long no call went after the last refusal, seconds. A small bucket was full
        for most of that time: it is left out of the measurement.

        The bucket was empty at both refusals, so what was used between them is the refill. A small
        bucket is an exception: it was full for part of the time, so the refill is higher. Then the
        pace just before the refusal is the better guess. That pace is tried once, with the measured
        refill as `floor`, to see which of the two it is.
        """
        lost = max(0.0, paused - SMALL_BUCKET_S) if self.small > 0 else 0.0
        lost = min(lost, 0.5 * (now - self.empty_at))
        passed, refill = max(0.0, calls - self.calls), self.refill(now - lost, used)
        small, spent = self._small_after_refusal(), refused - self.refused
        pace = self.rate * (1.0 + min(0.5 * self.step, self.step - self.first_step))
        pace = min(pace, LARGEST_PROBE * refill) if self.doublings and small >= 0 else 0.0
        credit = self.credit + passed / CALLS_PER_REFUSAL - spent
        credit = max(-1.0, min(SAVED_REFUSALS, credit))
        found = Probe.at(now, refill, calls, used, refused)
        found = msgspec.structs.replace(found, lag=self.lag / 2, credit=credit)
        if small == 0 and pace > (1.0 + FIRST_STEP) * refill:
            first = max(FIRST_STEP, self.step / 4)
            return msgspec.structs.replace(found, rate=pace, floor=refill, first_step=first)
        if small > 0 and pace > refill:
            hold, first = (
                min(CALLS_PER_REFUSAL, 2 * passed),
                max(FIRST_STEP / 2, 1 / max(1.0, passed)),
            )
            return msgspec.structs.replace(
                found, rate=pace, small=small, hold=hold, first_step=first
            )
        if passed < READABLE_CALLS:
            return self._cut(refill, small)
        found = msgspec.structs.replace(found, small=small)
        quotient = refill / max(LEAST, self.measured)
        agrees = AGREEMENT < quotient < 1 / AGREEMENT
        if not agrees and (refill > self.measured or credit > 0 or self.lag > DOUBLING_S):
            return found  # the rate is not known well yet: the next trial is soon
        budget = affordable(passed / max(1e-3, now - self.empty_at)) * min(3, max(1, spent))
        tried = max(0.0, passed - self.hold) if self.doublings else 0.0
        hold = min(max(budget / 2, budget - tried), HOLD_FACTOR * passed)
        return msgspec.structs.replace(found, hold=hold, first_step=max(FIRST_STEP, 1 / passed))

    def surprise(self, old: Probe) -> float:
        """Return how much this measurement differs from an older one: |log(new / old)|."""
        return abs(math.log(max(LEAST, self.measured) / max(LEAST, old.measured)))

    def in_debt(self, now: float, latency: float) -> Probe:
        """Return what is known when no call was accepted since the refusal at `empty_at`.

        The bucket is below empty. So it is not small, its refill may not be exceeded yet, and what
        a trial does shows only after a lag. In the first DEBT_S the bucket may only be slow.
        """
        if now - self.empty_at < DEBT_S:
            return self
        lag = min(now - self.empty_at, CHARGE_LATENCIES * latency)
        rate = max(LEAST_RATE, self.floor or self.rate)
        return msgspec.structs.replace(self, rate=rate, floor=0.0, small=-RECHECK_REFUSALS, lag=lag)

    def after_debt(self, now: float, calls: float, used: float, refused: int) -> Probe:
        """Return what is known when a call is accepted after a debt: the bucket is about empty.

        What was charged since the refusal at `empty_at` is the refill. A short debt shows little,
        and where nothing was charged there is nothing to measure.
        """
        if now - self.empty_at < MEASURED_DEBT_S or not self.lag or used <= self.used:
            return self
        found = Probe.at(now, self.refill(now, used), calls, used, refused)
        return msgspec.structs.replace(found, lag=self.lag, small=self.small, credit=self.credit)

    def _cut(self, refill: float, small: int) -> Probe:
        """Return the probe after too few calls to measure the refill: cut the rate, in bounds."""
        low, high = SMALL_CUT if self.small > 0 else CUT
        rate = self.floor or max(low * self.send_rate, min(high * self.send_rate, refill))
        rate = max(LEAST_RATE, rate)
        return msgspec.structs.replace(
            self,
            rate=rate,
            ceiling=LARGEST_PROBE * rate,
            doublings=0.0,
            hold=2 * READABLE_CALLS,
            first_step=UNSURE_STEP,
            small=small,
            floor=0.0,
        )

    def _small_after_refusal(self) -> int:
        """Return the next value of `small` after a refusal."""
        if self.floor:
            return -RECHECK_REFUSALS
        if self.small > 0:
            return int(self.doublings > 0)
        return min(0, self.small + 1)

    def after_calls(
        self, now: float, passed: float, calls: float, used: float, *, bound: bool
    ) -> Probe:
        """Return what is known `passed` seconds later without a refusal.

        `calls` and `used` are the lane's counters. More is tried only while this gate is `bound`,
        which means that it kept calls waiting.
        """
        need = max(LEAST, (used - self.used) / max(1.0, calls - self.calls))  # units a call
        if self.floor:  # a bucket with this refill would not have accepted so much
            spare = self.floor * (now - self.empty_at) - (used - self.used)
            proven = spare < -PROOF_CALLS * need
            return msgspec.structs.replace(self, floor=0.0, small=1) if proven else self
        resting = now - self.empty_at < REST_LAGS * self.lag
        if not bound or resting or calls - self.calls < self.hold:
            return self
        spare = self.rate * (now - self.proven_at) - (used - self.proven_used)
        ceiling = max(self.ceiling, LARGEST_PROBE * self.refill(now, used))
        per_second = min(1 / max(DOUBLING_S, self.lag), self.send_rate / need / DOUBLING_CALLS)
        doublings = self.doublings + passed * per_second
        tried = msgspec.structs.replace(self, doublings=doublings, ceiling=ceiling)
        if spare > -PROOF_CALLS * need:
            return tried
        doublings -= 1.0 if self.small >= 0 else 0.0
        return msgspec.structs.replace(
            tried, rate=self.send_rate, doublings=doublings, proven_at=now, proven_used=used
        )
