"""The benchmarks run: every contender does a small course, whole and measured."""

from __future__ import annotations

import pytest

from benchmarks.endpoint import endpoint
from benchmarks.feed import measure_feed
from benchmarks.loads import ALL
from benchmarks.race import Course, race

SMALL = Course(processes=2, slots=10, latency_s=0.01, jobs=50)


async def test_a_file_is_checked_and_fed_whole() -> None:
    """Its figures are of jobs that reached Redis, with room made for all of them."""
    size, jobs, *figures = await measure_feed(jobs=60_000, size=100)
    assert (size, jobs) == ("100", "60,000")
    assert all(float(figure.replace(",", "")) > 0 for figure in figures)


@pytest.mark.parametrize("contender", ALL)
async def test_a_contender_does_its_whole_course(contender: str) -> None:
    """A benchmark that quietly drops work flatters whoever drops it: race() checks that."""
    async with endpoint() as there:
        figures = await race(SMALL, contender, there)
    assert figures.cpu_us > 0
    assert figures.rss_mb > 0
    assert (figures.commands > 0) == (contender in {"stock arq", "nightmill"})
