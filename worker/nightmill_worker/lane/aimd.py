"""The law: how a lane's window (calls in flight, over the whole fleet) moves. Pure.

Additive increase, multiplicative decrease. Until the first refusal the window doubles per round
trip, so an endpoint without limits is never held back for long.
"""

from __future__ import annotations

from typing import Final

import msgspec

START: Final = 16.0
"""First window, calls in flight."""
LARGEST: Final = 100_000.0
CUT: Final = 0.5


class Law(msgspec.Struct, frozen=True, kw_only=True):
    """What the law knows of a lane: its window, and the last refusal it has acted on."""

    window: float = START
    epoch: int = 0
    slow_start: bool = True


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in a lane since the last step.

    `answered` counts calls served, `bound` how often the window kept a job waiting; `epoch` counts
    refusals, those of calls sent before an earlier one left out; `in_flight` is now.
    """

    answered: int
    bound: int
    epoch: int
    in_flight: int


def step(law: Law, seen: Seen) -> Law:
    """Return the law's next state.

    The window grows only while it binds: by one per call answered in slow start (doubling per
    round trip), by one per window answered afterwards. A new refusal halves it, once an epoch.
    """
    if seen.epoch > law.epoch:
        window = max(1.0, min(law.window, seen.in_flight + 1.0) * CUT)
        return Law(window=window, epoch=seen.epoch, slow_start=False)
    if not seen.bound:
        return law
    gain = float(seen.answered) if law.slow_start else seen.answered / law.window
    window = min(law.window + min(gain, law.window), LARGEST)
    return Law(window=window, epoch=law.epoch, slow_start=law.slow_start)
