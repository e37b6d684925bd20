"""The endpoint's own bucket, as its headers tell it: what other users of the key take from it."""

from __future__ import annotations

import math
from typing import Final

import msgspec

DRIFT_S: Final = 5.0
"""How often the drain of others is learned anew, seconds."""
DRIFT_GAIN: Final = 0.3
RESERVE: Final = (0.10, 0.35)
"""What is left in the bucket: at most these shares of a minute's limit and of the burst seen."""
CAUTION: Final = 6.0
"""How many times the reserve may become when the mirror proves wrong."""
FORGET_S: Final = 600.0
"""How long it takes to trust it again."""
TINY: Final = 3.0
"""A bucket of fewer requests than this punishes a call that arrives a moment early."""
TINY_PACE: Final = 0.98


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """What headers say of one dimension.

    `limit` a minute; `most` is the largest bucket seen; `corrected` sums up all corrections that
    settle made to the lane's level, for good.
    """

    limit: float
    most: float
    corrected: float


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """What others take: `rate` units a second, <= 0, with the `limit` and corrections at `at`."""

    rate: float = 0.0
    limit: float = 0.0
    corrected: float = 0.0
    at: float = 0.0
    caution: float = 1.0

    def care(self, passed: float, *, missed: bool) -> Drift:
        """Return the drift `passed` seconds later; a refusal that it `missed` doubles caution."""
        caution = 1.0 + (self.caution - 1.0) * math.exp(-passed / FORGET_S)
        caution = min(CAUTION, 2 * caution) if missed else caution
        return msgspec.structs.replace(self, caution=caution)

    def learn(self, told: Reported, now: float) -> Drift:
        """Return the drift after the corrections since the last look; a new limit waits longer."""
        if told.limit != self.limit:
            return msgspec.structs.replace(
                self, rate=0.0, limit=told.limit, corrected=told.corrected, at=now + DRIFT_S
            )
        seconds = now - self.at
        if seconds < 0:
            return msgspec.structs.replace(self, corrected=told.corrected)
        if seconds < DRIFT_S:
            return self
        full = told.limit / 60
        drain = (told.corrected - self.corrected) / seconds
        if drain:
            rate = self.rate + DRIFT_GAIN * max(-full, min(full, drain))
        else:  # nothing heard: without calls there are no headers, and a drain may have ended
            rate = self.rate * (1 - DRIFT_GAIN)
        rate = max(-0.95 * full, min(0.0, rate))
        return msgspec.structs.replace(self, rate=rate, corrected=told.corrected, at=now)


def refill(told: Reported, drift: Drift) -> float:
    """Return what the bucket gains for us, units a second."""
    rate = told.limit / 60 + drift.rate
    return rate * TINY_PACE if told.most < TINY else rate


def reserve(told: Reported, drift: Drift) -> float:
    """Return how much to leave in the bucket."""
    limit, burst = RESERVE
    return min(limit * told.limit * drift.caution, burst * told.most * min(2.0, drift.caution))
