"""Utilisation: how much of its limit a lane turned into accepted calls while jobs waited. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nightmill_worker.limiter.law import DIMENSIONS

if TYPE_CHECKING:
    from nightmill_worker.limiter.law import Law
    from nightmill_worker.limiter.records import Caps, Observed

READ_S: Final = 5.0
"""How often a lane is read, seconds: long enough for slow lanes to have accepted something."""


class Utilisation(msgspec.Struct, frozen=True, kw_only=True):
    """A lane at its last reading, at `at` of the law's clock."""

    at: float = 0.0
    seen: dict[str, float] = {}
    bound: int = 0
    answers: dict[str, int] = {}


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a span gave: its `seconds`, the `share` used of the tightest limit, whose jobs ran.

    A share is above 1 while a burst that the endpoint had saved up is spent.
    """

    seconds: float
    share: float
    batches: tuple[str, ...]


def limits(law: Law, caps: Caps) -> dict[str, float]:
    """Return the limits known, told, found or allowed: units a second, and "window" in calls."""
    known = {d: told.limit / 60 for d, told in law.seen.told.items()}
    if law.rated:
        known.setdefault(law.suspect, law.probes[law.suspect].rate)
    allowed = {d: getattr(caps, d) / 60 for d in DIMENSIONS if getattr(caps, d) is not None}
    found = {"window": law.window.roof} if law.window.roof else {}
    if caps.window is not None:
        allowed["window"] = float(caps.window)
    for name, most in (*found.items(), *allowed.items()):
        known[name] = min(most, known.get(name, most))
    return known


def read(
    meter: Utilisation, seen: Observed, limits: dict[str, float], now: float
) -> tuple[Utilisation, Reading | None]:
    """Return the meter from now on and, when a span is over, what it gave.

    `limits` are units a second, and calls in flight for "window". A span without limits, without
    answers, or in which no gate kept a job waiting gives None: nothing was there to be used.
    """
    seconds = now - meter.at
    if seconds < READ_S:
        return meter, None
    used = {name: seen.used(name) for name in limits if name != "window"}
    answers = {batch: cost.answers for batch, cost in seen.costs.items()}
    after = Utilisation(at=now, seen=used, bound=sum(seen.bound.values()), answers=answers)
    shares = [
        (used[name] - meter.seen[name]) / seconds / limits[name]
        for name in used
        if name in meter.seen
    ]
    if "window" in limits:
        shares.append(seen.in_flight / limits["window"])
    batches = tuple(b for b, count in answers.items() if count != meter.answers.get(b, 0))
    if not (shares and batches and after.bound > meter.bound):
        return after, None
    return after, Reading(seconds=seconds, share=max(shares), batches=batches)
