"""Bounds of the numbers that enter the limiter, so that the law only meets finite ones. Pure."""

from __future__ import annotations

from typing import Final

LARGEST_COUNT: Final = 2**53
"""Counters and sums of tokens. Lua's numbers are doubles: above this they are not exact."""
LARGEST_LIMIT: Final = 10**12
"""Units a minute. A reported limit above this is no limit: it counts as absent."""
LEAST_LIMIT: Final = 1.0
"""Units a minute, and units that a bucket holds."""
LEAST_RATE: Final = 1e-3
"""Units a second. No rate is below this: dividing by a rate is safe, and no lane stops for ever."""
LONGEST_CALL_S: Final = 600.0
"""Seconds, the default of JOB_TIMEOUT_S. A first call that took longer counts as this long."""
LARGEST_WINDOW: Final = 100_000.0
"""Calls in flight."""
LARGEST_SHARE: Final = 100.0
"""Use of a limit as a multiple of it: a burst uses what the endpoint saved up."""


def bounded(value: float, low: float, high: float) -> float:
    """Return `value`, at least `low` and at most `high`. NaN becomes `low`."""
    if value != value:  # noqa: PLR0124 - true for NaN alone, and for no int however large
        return low
    return min(high, max(low, value))


def count(value: float) -> int:
    """Return a counter, 0 to LARGEST_COUNT."""
    return int(bounded(value, 0, LARGEST_COUNT))
