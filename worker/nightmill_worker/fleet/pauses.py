"""How long a worker waits before it claims again."""

from __future__ import annotations

from typing import Final

CLAIM_GAP_S: Final = 0.025
"""Shortest time between two claims of a busy worker, seconds; a lane's buckets hold twice that."""
LONGEST_GAP_S: Final = 0.2
"""Longest time that a worker without tokens adds between two claims, seconds. 20 workers share a
lane of 20 tokens a second: if each asked when the next one comes, 19 of 20 would get nothing."""
LOOK_S: Final = 0.25
"""A worker looks this often for what others give back, since a wake may be lost; seconds."""
FULL_LOOK_S: Final = 1.0
"""A worker without a free slot looks this often for aborts, seconds."""
LANES_WAIT_S: Final = 1.0
"""Longest wait for a lane. A longer one says that no job is due: a new one brings a wake."""


class Pauses:
    """The waits of one worker; a wake or a freed slot ends any of them."""

    def __init__(self) -> None:
        """Begin without a gap of its own."""
        self._gap_s = 0.0

    def after(self, wait_s: float, *, full: bool, got: bool, idle: bool, woken: bool) -> float:
        """Return the wait after a claim, seconds; `wait_s` is what the script named.

        `full` says that this worker can start no job, `got` that the claim got jobs, `idle` that
        this worker holds none, `woken` that it did not wait as long as it should. A claim that got
        nothing after such a wait doubles the gap: others were there first, and will use what comes
        meanwhile.
        """
        if got or full or wait_s >= LOOK_S:
            self._gap_s = 0.0
        elif not woken:
            self._gap_s = min(max(CLAIM_GAP_S, 2 * self._gap_s), LONGEST_GAP_S)
        if full:
            return FULL_LOOK_S
        if idle and wait_s > LANES_WAIT_S:
            return wait_s
        return max(min(wait_s, LOOK_S), self._gap_s)
