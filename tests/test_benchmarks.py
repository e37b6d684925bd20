"""The benchmarks run: every contender does all of a small workload."""

from __future__ import annotations

import pytest

from benchmarks.endpoint import endpoint
from benchmarks.feed import measure_feed
from benchmarks.loads import ALL
from benchmarks.measure import Workload, measure

SMALL = Workload(processes=2, slots=10, latency_s=0.01, jobs=50)


async def test_a_whole_file_is_checked_and_fed() -> None:
    """More jobs than the window holds reach Redis, so the figures include waits for room."""
    size, jobs, *figures = await measure_feed(jobs=60_000, size=100)
    assert (size, jobs) == ("100", "60,000")
    assert all(float(figure.replace(",", "")) > 0 for figure in figures)


@pytest.mark.parametrize("contender", ALL)
async def test_a_contender_does_its_whole_workload(contender: str) -> None:
    """A contender that drops work would look faster than it is; measure() raises for that."""
    async with endpoint() as simulator:
        figures = await measure(SMALL, contender, simulator)
    assert figures.cpu_us > 0
    assert figures.rss_mb > 0
    assert (figures.commands > 0) == (contender in {"stock arq", "nightmill"})
