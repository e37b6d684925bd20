"""Probing for the number of calls that an endpoint runs at once. Pure.

Until a refusal shows a cap, the window doubles per round trip of calls. Under a known cap it stays
for a while, then one more call is tried, then two more, four more, and so on until a refusal.
"""

from __future__ import annotations

from typing import Final

import msgspec

from nightmill_worker.limiter.bounds import LARGEST_WINDOW
from nightmill_worker.limiter.probing import CALLS_PER_REFUSAL, affordable

STABLE_STEPS: Final = 3
"""A larger window must stand this many steps of the law without a refusal to become the cap."""
SURE_CALLS: Final = 64.0
"""A cap that is held for this many calls between two trials is no accident."""


class Window(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    rename={"cap": "roof", "hold_length": "pause", "stable_steps": "stood"},
):
    """How many calls may be in flight, stored with the lane."""

    size: float = 16.0
    """Calls in flight at most."""
    cap: float = 0.0
    """The endpoint's cap as far as it is known, calls; 0 while no refusal has shown one."""
    peak: float = 0.0
    """The most calls that were in flight since the last refusal, none refused."""
    hold: float = 0.0
    """Calls that must still be answered before a larger window is tried."""
    hold_length: float = 0.0
    """The value that `hold` started from at the last refusal."""
    step: float = 1.0
    """How many calls more than the cap are tried."""
    stable_steps: int = 0
    """Steps of the law that the window on trial has stood."""

    @property
    def cap_sure(self) -> bool:
        """Whether the cap was met again and again."""
        return self.hold_length >= SURE_CALLS

    @property
    def cap_known(self) -> bool:
        """Whether the cap is known so well that a refusal below it means that it fell."""
        return self.hold_length >= CALLS_PER_REFUSAL

    def untested(self, in_flight: int) -> bool:
        """Whether this many calls in flight were not accepted before, or are a trial's doing."""
        return in_flight > self.peak or 0 < self.cap <= min(in_flight, self.size - 1)

    def after_refusal(self, size: float, latency: float, *, accepted: bool) -> Window:
        """Return the window after a refusal; `size` calls in flight would have been accepted.

        `latency` is a call's length, seconds. `accepted`: so many calls were accepted before.
        """
        size = max(1.0, size)
        same_cap = 0.9 * self.cap <= size <= 1.1 * self.cap
        hold = (
            4.0 * self.hold_length
            if same_cap
            else max(min(size, SURE_CALLS / 4), self.hold_length / 2)
        )
        hold = min(affordable(size / max(1e-3, latency)), hold)
        peak = size if accepted else 0.0
        return Window(size=size, cap=size, peak=peak, hold=hold, hold_length=hold)

    def with_room(self, calls: float) -> Window:
        """Return a window of at least `calls`, unless a cap is known."""
        if self.cap or calls <= self.size:
            return self
        return msgspec.structs.replace(self, size=min(LARGEST_WINDOW, calls))

    def after_answers(self, answered: int, in_flight: int, *, bound: bool) -> Window:
        """Return the window after `answered` calls without a refusal.

        The window only grows while it is `bound`, which means that it kept calls waiting.
        """
        peak = max(self.peak, in_flight)
        size, hold, step, stable, cap = self.size, self.hold, self.step, self.stable_steps, self.cap
        if bound and not cap:
            size = min(LARGEST_WINDOW, size + min(answered, size))
        elif bound and size <= cap:
            hold -= answered
            size = cap + step if hold <= 0 else size
        elif bound:
            stable += 1
            if stable >= STABLE_STEPS:
                cap, step, stable = size, min(LARGEST_WINDOW, 2 * step), 0
                size = min(LARGEST_WINDOW, cap + step)
        return Window(
            size=size,
            cap=cap,
            peak=peak,
            hold=hold,
            hold_length=self.hold_length,
            step=step,
            stable_steps=stable,
        )
