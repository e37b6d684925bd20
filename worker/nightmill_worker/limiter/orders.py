"""The orders of a lane: window and gates that claims obey, as law and caps say. Pure."""

from __future__ import annotations

from typing import Final

from nightmill_worker.limiter.bounds import LARGEST_WINDOW, LEAST_RATE
from nightmill_worker.limiter.header_bucket import refill, reserve
from nightmill_worker.limiter.law import Law, pace_of, rated_probe
from nightmill_worker.limiter.opening import known_pace
from nightmill_worker.limiter.records import DIMENSIONS, Caps, Gate, Orders

BURST_S: Final = 0.05
"""A bucket that the fleet fills itself holds one call and this many seconds of its rate, so that a
late claim loses nothing."""
CAP_BURST_S: Final = 1.0
"""The same for an operator's cap on tokens: what a call reserved in excess must fit back in."""
LONGEST_WAIT_S: Final = 60.0
"""A measured rate lets one call start in this time at least, seconds: it may be wrong."""
DOUBT_S: Final = 60.0
"""A known limit sets no pace for so long after a refusal or a failure, seconds."""


def orders(law: Law, caps: Caps) -> Orders:
    """Return what to publish. In each dimension the lowest limit counts: reported, found or set."""
    pace = pace_of(law)
    known = known_pace(law.observed, caps)
    trusted = known > 0 and law.clock - law.doubted_at >= DOUBT_S
    if known:
        pace = known if trusted else min(known, pace)
    gates = {"pace": Gate(rate=pace, capacity=1.0 + BURST_S * pace)}
    if law.in_debt:  # one call a pause: a refusal leaves the bucket half a call below 0
        gates["pace"] = Gate(rate=min(pace, 1.5 / law.pause), capacity=1.0)
    for d in DIMENSIONS:
        gate = _gate(law, caps, d)
        if gate is not None:
            gates[d] = gate
    size = LARGEST_WINDOW if trusted and not law.window.cap else law.window.size
    window = min(int(size), caps.window or int(size))
    return Orders(window=max(1, window), gates=gates, reserves=law.reserves, pause=law.pause)


def _gate(law: Law, caps: Caps, dimension: str) -> Gate | None:
    """Return the bucket of a dimension, None when no limit is known for it."""
    reported = law.observed.reported.get(dimension)
    rates = []
    if reported is not None:
        rates.append(refill(reported, law.drifts[dimension]))
    need = max(1.0, law.observed.used(dimension) / max(1, law.observed.accepted))
    if dimension == law.suspect and (probe := rated_probe(law)) is not None:
        rates.append(max(probe.send_rate, need / LONGEST_WAIT_S))
    rates = [rate * (1 - caps.polite) for rate in rates]
    cap = getattr(caps, dimension)
    if cap is not None:
        rates.append(cap / 60)
    if not rates:
        return None
    rate = max(LEAST_RATE, min(rates))
    if reported is not None and rate == rates[0] and not caps.polite:
        left = reserve(reported, law.drifts[dimension])
        return Gate(rate=rate, capacity=reported.largest, reserve=left, follows_headers=True)
    capped = cap is not None and rate == cap / 60 and dimension != "requests"
    burst_s = CAP_BURST_S if capped else BURST_S
    return Gate(rate=rate, capacity=need + max(0.0, burst_s * rate - 0.1 * need))
