"""How many slots are busy: samples of the endpoint's own count of calls in flight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Final

import msgspec

from benchmarks.endpoint import Endpoint, Stats

EVERY_S: Final = 0.02
"""Time between two samples, seconds."""
FULL: Final = 0.95
"""Share of busy slots from which on slots count as full. Where slots were never full, the share is
of the most calls in flight that were sampled."""


class Sample(msgspec.Struct, frozen=True):
    """The endpoint's counts at one moment."""

    at: float
    """`time.perf_counter()`, seconds."""
    stats: Stats


class Steady(msgspec.Struct, frozen=True, kw_only=True):
    """The middle of a run: from slots first full until the queue is shorter than the slots.

    Both numbers are 0 for a run without a middle.
    """

    full: bool
    """Whether slots were ever full. If not, the middle begins near the most calls in flight, and
    the numbers are too good."""
    busy: float
    """Calls in flight, integrated over time, divided by slots x time: 0 to 1."""
    jobs_per_s: float


@asynccontextmanager
async def sampled(endpoint: Endpoint) -> AsyncIterator[list[Sample]]:
    """Sample the endpoint until the block ends."""
    samples: list[Sample] = []
    task = asyncio.create_task(_sample(endpoint, samples))
    try:
        yield samples
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _sample(endpoint: Endpoint, samples: list[Sample]) -> None:
    while True:
        stats = await endpoint.stats()
        samples.append(Sample(time.perf_counter(), stats))
        await asyncio.sleep(EVERY_S)


def steady(samples: list[Sample], slots: int, jobs: int) -> Steady:
    """Find the middle of a run of `jobs` jobs on `slots` slots and measure it."""
    most = max(sample.stats.in_flight for sample in samples)
    filled = most >= FULL * slots
    full = FULL * (slots if filled else most)
    first = next(i for i, s in enumerate(samples) if s.stats.in_flight >= full)
    middle = [s for s in samples[first:] if jobs - s.stats.totals.calls >= slots]
    if len(middle) < 2:  # noqa: PLR2004 - an interval has two ends
        return Steady(full=False, busy=0.0, jobs_per_s=0.0)
    lasted = middle[-1].at - middle[0].at
    area = sum(a.stats.in_flight * (b.at - a.at) for a, b in pairwise(middle))
    answered = middle[-1].stats.totals.answered - middle[0].stats.totals.answered
    return Steady(full=filled, busy=area / lasted / slots, jobs_per_s=answered / lasted)
