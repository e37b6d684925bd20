"""How many slots are busy: the endpoint's own count of calls in flight, sampled."""

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
FULL: Final = 0.95
"""Slots count as full from this share on; where they never are, that share of the most seen."""


class Sample(msgspec.Struct, frozen=True):
    """The endpoint's counts at a moment, seconds."""

    at: float
    stats: Stats


class Steady(msgspec.Struct, frozen=True, kw_only=True):
    """The middle of a run: from slots first full until the queue is shorter than the slots.

    `busy` is the time integral of calls in flight over slots x time, 0 to 1. `full` tells whether
    the slots were ever full: where not, the middle begins near the most that was reached, which
    flatters. Both numbers are 0 where there was no middle.
    """

    full: bool
    busy: float
    jobs_per_s: float


@asynccontextmanager
async def watched(endpoint: Endpoint) -> AsyncIterator[list[Sample]]:
    """Sample the endpoint while the block runs."""
    samples: list[Sample] = []
    task = asyncio.create_task(_watch(endpoint, samples))
    try:
        yield samples
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _watch(endpoint: Endpoint, samples: list[Sample]) -> None:
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
