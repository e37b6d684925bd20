"""The endpoint's own bucket as headers report it, and what other users of the credential take."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from nightmill_worker.limiter.bounds import LARGEST_COUNT, LARGEST_LIMIT, LEAST_LIMIT, bounded

DRIFT_S: Final = 5.0
"""The drain of other users is estimated this often, seconds."""
DRIFT_GAIN: Final = 0.3
"""Weight of a new estimate of the drain."""
RESERVE: Final = (0.10, 0.35)
"""The reserve is at most these shares of the limit a minute and of the largest level reported."""
CAUTION: Final = 6.0
"""The reserve is at most this many times its normal size after unexpected refusals."""
FORGET_S: Final = 600.0
"""Time constant with which the reserve returns to its normal size, seconds."""
TINY: Final = 3.0
"""In a bucket of fewer requests than this, a call that arrives a moment early is refused."""
TINY_PACE: Final = 0.98
"""Share of the refill that is used in such a bucket."""


class Reported(msgspec.Struct, frozen=True, kw_only=True, rename={"largest": "most"}):
    """What headers report of one dimension, as lane.lua stores it."""

    limit: float
    """Units a minute."""
    largest: float
    """The largest level of the endpoint's bucket that a header showed under this limit, units."""
    corrected: float
    """The sum of all corrections that headers made to the lane's level, units. Never reset."""

    @property
    def credible(self) -> bool:
        """Whether this is a limit at all: a limit of 0, or an absurd one, is never learned."""
        return LEAST_LIMIT <= self.limit <= LARGEST_LIMIT

    def within_bounds(self) -> Reported:
        """Return the same with every number finite and in range."""
        return Reported(
            limit=self.limit,
            largest=bounded(self.largest, LEAST_LIMIT, LARGEST_LIMIT),
            corrected=bounded(self.corrected, -LARGEST_COUNT, LARGEST_COUNT),
        )


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """What other users of the credential take from one bucket."""

    rate: float = 0.0
    """The drain, units a second; 0 or negative."""
    limit: float = 0.0
    """The reported limit at the last estimate, units a minute."""
    corrected: float = 0.0
    """The sum of corrections at the last estimate, units."""
    at: float = 0.0
    """When the last estimate was made, by the law's clock, seconds."""
    caution: float = 1.0
    """Factor of the reserve, 1 to CAUTION."""

    def with_caution(self, passed: float, *, refused: bool) -> Drift:
        """Return the drift `passed` seconds later. `refused`: this bucket refused unexpectedly.

        Each such refusal doubles the caution, which then decays.
        """
        caution = 1.0 + (self.caution - 1.0) * math.exp(-passed / FORGET_S)
        caution = min(CAUTION, 2 * caution) if refused else caution
        return msgspec.structs.replace(self, caution=caution)

    def learn(self, reported: Reported, now: float) -> Drift:
        """Return the drift with a new estimate, if DRIFT_S have passed since the last one.

        After a change of the limit, the first estimate comes DRIFT_S later than usual: the
        corrections that the change itself causes are no drain.
        """
        if reported.limit != self.limit:
            return msgspec.structs.replace(
                self,
                rate=0.0,
                limit=reported.limit,
                corrected=reported.corrected,
                at=now + DRIFT_S,
            )
        seconds = now - self.at
        if seconds < 0:
            return msgspec.structs.replace(self, corrected=reported.corrected)
        if seconds < DRIFT_S:
            return self
        full = reported.limit / 60
        drain = (reported.corrected - self.corrected) / seconds
        if drain:
            rate = self.rate + DRIFT_GAIN * max(-full, min(full, drain))
        else:  # no new header: without calls there are none, and the drain may have ended
            rate = self.rate * (1 - DRIFT_GAIN)
        rate = max(-0.95 * full, min(0.0, rate))
        return msgspec.structs.replace(self, rate=rate, corrected=reported.corrected, at=now)


def refill(reported: Reported, drift: Drift) -> float:
    """Return what the bucket gains for this fleet, units a second."""
    rate = reported.limit / 60 + drift.rate
    return rate * TINY_PACE if reported.largest < TINY else rate


def reserve(reported: Reported, drift: Drift) -> float:
    """Return how much claims leave in the bucket, units."""
    limit, burst = RESERVE
    return min(
        limit * reported.limit * drift.caution, burst * reported.largest * min(2.0, drift.caution)
    )
