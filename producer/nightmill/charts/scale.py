"""Ticks and labels of an axis, and coordinates as text."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final

LATEST_S: Final = 32_503_680_000.0
"""Epoch seconds of the year 3000: a later time is no time of a job."""
LARGEST: Final = 1e18
"""A larger value is a gap: it would make every other value 0."""
_STEPS_S: Final = (
    *(1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 10_800, 21_600, 43_200),
    *(86_400, 172_800, 604_800, 2_592_000, 31_536_000),
)
_DAY_S: Final = 86_400
_MINUTE_S: Final = 60
_UNITS: Final = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def known(value: float | None) -> float | None:
    """Return a value that a chart can show, else None."""
    if value is None or not math.isfinite(value) or abs(value) > LARGEST:
        return None
    return float(value)


def ticks(highest: float, number: int = 4) -> list[float]:
    """Return round values from 0 on, of which the last is `highest` or more."""
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / number
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(each * size for each in (1, 2, 2.5, 5, 10) if each * size >= rough * (1 - 1e-9))
    return [step * n for n in range(math.ceil(highest / step * (1 - 1e-9)) + 1)]


def time_ticks(since: float, until: float, number: int = 6) -> list[tuple[float, str]]:
    """Return round moments between two epoch seconds with their labels, in UTC."""
    span = until - since
    step = next((each for each in _STEPS_S if span / each <= number), _STEPS_S[-1])
    first = math.ceil(since / step) * step
    moments = range(first, math.floor(until) + 1, step)
    return [(float(at), _moment(at, step)) for at in moments][: number + 1]


def _moment(at: int, step: int) -> str:
    when = datetime.fromtimestamp(at, UTC)
    if at % _DAY_S == 0:
        return f"{when:%Y-%m-%d}" if step >= _DAY_S else f"{when:%m-%d}"
    return f"{when:%H:%M}" if step >= _MINUTE_S else f"{when:%H:%M:%S}"


def short(value: float) -> str:
    """Return a value as 0.25, 12, 1.5k or 2M."""
    for size, unit in _UNITS:
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def at(value: float) -> str:
    """Return a coordinate as short as it can be."""
    return f"{value:.1f}".removesuffix(".0")
