"""What a lane relies on after a rest: after an hour, what it learned counts half. Pure.

A lane's hash outlives its workers, so the next run goes on from what the last one learned. The
limits may be others by then. So the older they are, the sooner and the more is tried above them.
"""

from __future__ import annotations

from typing import Final

import msgspec

from nightmill_worker.limiter.header_bucket import Drift
from nightmill_worker.limiter.probing import READABLE_CALLS, UNSURE_STEP, Probe
from nightmill_worker.limiter.records import Observed
from nightmill_worker.limiter.window import Window

REST_S: Final = 60.0
"""A shorter time without calls changes nothing, seconds; lane.lua has the same."""
HALF_S: Final = 3600.0
"""After this time, what was learned counts half, seconds."""


def trust(rested: float) -> float:
    """Return how much counts what was learned before a rest of `rested` seconds, 0 to 1."""
    return 1.0 if rested < REST_S else float(0.5 ** min(50.0, rested / HALF_S))


def aged_window(window: Window, share: float) -> Window:
    """Return the window after a rest. A cap stays, and is tried sooner."""
    if window.cap:
        return msgspec.structs.replace(window, hold=window.hold * share, peak=0.0)
    return msgspec.structs.replace(window, size=max(Window().size, window.size * share), peak=0.0)


def aged_probe(probe: Probe, share: float, now: float, observed: Observed, dimension: str) -> Probe:
    """Return a probe after a rest: its rate stays, a trial above it comes sooner and is larger.

    The refill is measured from now on: the rest, in which nothing was used, is left out.
    """
    used, calls = observed.used(dimension), observed.accepted
    found = Probe.at(now, probe.rate, calls, used, observed.refused)
    return msgspec.structs.replace(
        found,
        measured=probe.measured,
        small=probe.small,
        credit=probe.credit,
        hold=max(READABLE_CALLS, probe.hold * share),
        first_step=max(probe.first_step, UNSURE_STEP * (1.0 - share)),
    )


def aged_drift(drift: Drift, share: float) -> Drift:
    """Return what others of the key took, after a rest."""
    return msgspec.structs.replace(drift, rate=drift.rate * share)
