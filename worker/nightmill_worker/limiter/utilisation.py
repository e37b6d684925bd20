"""Utilisation: how much of its limit a lane used while jobs waited. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nightmill_worker.limiter.bounds import LARGEST_SHARE, LEAST_RATE, bounded
from nightmill_worker.limiter.law import rated_probe
from nightmill_worker.limiter.records import DIMENSIONS

if TYPE_CHECKING:
    from nightmill_worker.limiter.law import Law
    from nightmill_worker.limiter.records import Caps, Observed

READ_S: Final = 5.0
"""A lane is measured this often, seconds. In a shorter time a slow lane may accept no call."""


class Utilisation(msgspec.Struct, frozen=True, kw_only=True, rename={"used": "seen"}):
    """A lane's counters at its last measurement, stored with the lane."""

    at: float = 0.0
    """The law's clock, seconds."""
    used: dict[str, float] = {}
    """Dimension -> units used since the lane began."""
    bound: int = 0
    """How many claims found that a gate kept a job waiting."""
    answers: dict[str, int] = {}
    """Batch -> its answers since the lane began."""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """One measurement."""

    seconds: float
    """How long it covers."""
    share: float
    """The share used of the tightest limit; above 1 while a burst that was saved up is used."""
    batches: tuple[str, ...]
    """The batches that got an answer in this time."""


def limits(law: Law, caps: Caps) -> dict[str, float]:
    """Return the known limits: dimension -> units a second, and "window" -> calls in flight.

    A limit is reported by headers, found by probing, or set by the operator; the lowest counts.
    None is 0.
    """
    known = {d: reported.limit / 60 for d, reported in law.observed.reported.items()}
    if (probe := rated_probe(law)) is not None:
        known.setdefault(law.suspect, probe.rate)
    allowed = {d: getattr(caps, d) / 60 for d in DIMENSIONS if getattr(caps, d) is not None}
    found = {"window": law.window.cap} if law.window.cap else {}
    if caps.window is not None:
        allowed["window"] = float(caps.window)
    for name, limit in (*found.items(), *allowed.items()):
        known[name] = min(limit, known.get(name, limit))
    return {name: max(LEAST_RATE, limit) for name, limit in known.items()}


def measure(
    last: Utilisation, observed: Observed, limits: dict[str, float], now: float
) -> tuple[Utilisation, Reading | None]:
    """Return the counters to store and, every READ_S, a reading.

    `limits` are those of `limits()`; `now` is the law's clock, seconds. There is no reading (None)
    for a time without limits, without answers, or in which no gate kept a job waiting: then the
    lane had nothing to use its limit for.
    """
    seconds = now - last.at
    if 0 <= seconds < READ_S:
        return last, None
    used = {name: observed.used(name) for name in limits if name != "window"}
    answers = {batch: cost.answers for batch, cost in observed.costs.items()}
    after = Utilisation(at=now, used=used, bound=sum(observed.bound.values()), answers=answers)
    shares = [
        (used[name] - last.used[name]) / seconds / limits[name]
        for name in used
        if name in last.used
    ]
    if "window" in limits:
        shares.append(observed.in_flight / limits["window"])
    batches = tuple(b for b, count in answers.items() if count != last.answers.get(b, 0))
    if not (shares and batches and after.bound > last.bound):
        return after, None
    share = bounded(max(shares), 0.0, LARGEST_SHARE)
    return after, Reading(seconds=seconds, share=share, batches=batches)
