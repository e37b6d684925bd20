"""How fast a lane opens: the pace of calls until a refusal shows a limit. Pure.

A refusal comes back within milliseconds. So a call in flight that was not refused is accepted, and
need not end before more calls start: the window is always twice what is in flight, and the pace
follows the window. A limit that headers or the operator tell is used in full from the first call.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from nightmill_worker.limiter.bounds import LARGEST_WINDOW, LEAST_RATE, bounded
from nightmill_worker.limiter.records import DIMENSIONS

if TYPE_CHECKING:
    from nightmill_worker.limiter.records import Caps, Observed
    from nightmill_worker.limiter.window import Window

FIRST_LATENCY_S: Final = 1.0
"""Assumed length of a call until the first one has ended, seconds."""
GROWTH: Final = 2.5
"""While no limit is known, calls in flight grow by this many times themselves within the length of
a call: they double in 0.28 of it."""
PROVEN_GROWTH: Final = 5.0
"""The same once calls of all lengths are answered."""
FASTEST_GROWTH: Final = 5.0
"""Calls in flight grow by this many times themselves a second at most: they double in 0.14 s. What
is sent until the first refusal is back stays small where calls are short."""
PACE_FACTOR: Final = 1.5
"""The same once a limit was found. Calls start evenly spaced."""
PACE_FACTOR_AT_CAP: Final = 3.0
"""The same once the endpoint's cap on calls in flight is known: a free slot need not wait."""
LEAST_PACE: Final = 0.2
"""At least so many calls may start a second, while the window has room. A length of calls that was
measured wrong cannot stop the lane."""
UNPROVEN_PACE: Final = 200.0
"""While a lane opens, calls that are accepted suffice for this pace. For more, its first calls must
have ended: limits that refuse late, and endpoints that fail late, must not be met by thousands of
calls at once."""
MIXED_PACE: Final = 20.0
"""The same where the first calls last much longer than those that have ended: of long answers
nothing is known yet, and what they use is charged while they run."""
MIXED_LENGTHS: Final = 3.0
"""The first calls last much longer when they have run for this many times the mean length. Lengths
of calls of one kind differ less."""
FIRST_ENDS: Final = 14
"""So many of the first 16 calls must have ended. Long calls are among them, so that short ones do
not prove too much."""
KNOWN_FACTOR: Final = 1.25
"""Where a limit is known, calls start this many times as fast as it allows on the long run: what
the endpoint's bucket has saved up is used within minutes, not at once."""
UNANSWERED_CALLS: Final = 2048.0
"""Calls in flight at most before the first answer or refusal, unless a limit is known."""
UNANSWERED_OUTPUT: Final = 200.0
"""Output tokens of a call before the first answer; lane_state.lua reserves as many."""
BUCKET_S: Final = 0.25
"""What was accepted before the first refusal, divided by the time it took and this many seconds
more, is the first guess of the refill: right for a bucket of a quarter of a second."""


def known_pace(observed: Observed, caps: Caps) -> float:
    """Return the pace at which known limits are used in full, 0 when none is known.

    A limit of tokens counts once it is known what a call uses.
    """
    paces = []
    for d in DIMENSIONS:
        reported, cap = observed.reported.get(d), getattr(caps, d)
        limits = [] if reported is None else [reported.limit * (1 - caps.polite)]
        limits += [] if cap is None else [cap]
        if limits and (need := _need(observed, d)):
            paces.append(KNOWN_FACTOR * min(limits) / 60 / need)
    return bounded(min(paces), LEAST_RATE, LARGEST_WINDOW) if paces else 0.0


def _need(observed: Observed, dimension: str) -> float:
    """Return the units that a call uses, 0 when that is not known."""
    if dimension == "requests":
        return 1.0
    if observed.ok:
        return observed.used(dimension) / observed.ok
    return UNANSWERED_OUTPUT if dimension == "output" else 0.0


def room(observed: Observed, in_flight: int) -> float:
    """Return how many calls may be in flight, since `in_flight` calls were accepted."""
    early = not observed.ok and not observed.epoch
    return min(2.0 * in_flight, UNANSWERED_CALLS if early else 2.0 * in_flight)


def most_pace(observed: Observed, latency: float, running: float) -> float:
    """Return how many calls may start a second at most while no limit is known.

    There is no such bound once calls of all lengths are answered. `running` is how long ago the
    first call started, seconds. The second condition is for a lane whose first calls were lost with
    their worker.
    """
    many = 4 * max(UNANSWERED_CALLS, observed.in_flight)
    if observed.first_ended >= FIRST_ENDS or observed.ok > many:
        return math.inf
    mixed = observed.ok > 0 and running > MIXED_LENGTHS * latency
    return MIXED_PACE if mixed else UNPROVEN_PACE


def window_pace(window: Window, latency: float, *, limited: bool, most: float) -> float:
    """Return how many calls may start a second, so that the window fills within a round trip.

    `latency` is 0 before the first answer. `limited`: whether a refusal has shown a limit. Until
    then `most` calls start a second.
    """
    length = max(0.001, latency or FIRST_LATENCY_S)
    if limited:
        at_cap = window.cap_sure and window.size <= window.cap + 1
        factor = PACE_FACTOR_AT_CAP if at_cap else PACE_FACTOR
        return max(LEAST_PACE, factor * window.size / length)
    growth = PROVEN_GROWTH if most == math.inf else GROWTH
    pace = window.size / 2 * (1 / length + min(FASTEST_GROWTH, growth / length))
    return max(LEAST_PACE, min(most, pace))


def first_refill(accepted: int, seconds: float) -> float:
    """Return a first guess of the refill: `accepted` calls in `seconds` emptied the bucket."""
    return accepted / (max(0.0, seconds) + BUCKET_S)
