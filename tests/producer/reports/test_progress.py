"""Rate, remaining time and progress line from samples of counts."""

from __future__ import annotations

import pytest

from nightmill.records.counts import Counts
from nightmill.reports.progress import SPAN_S, Progress, duration, short


def running(done: int, total: int | None = 100) -> Counts:
    """Return the counts of a batch of which `done` jobs succeeded and the others wait."""
    return Counts(total=total, succeeded=done, queued=(total or 100) - done)


def test_rate_is_that_of_the_last_seconds_only() -> None:
    """Users want the current rate, not the average since the start."""
    progress = Progress(running(0, 1000), 0.0)
    progress.add(running(500, 1000), 10.0)
    for second in range(1, 12):
        progress.add(running(500 + second, 1000), 10.0 + second)
    assert progress.rate == pytest.approx(1.0)
    assert progress.eta_s == pytest.approx(489.0)


def test_rate_of_a_single_moment_is_zero() -> None:
    """Two samples at the same moment must not divide by zero."""
    progress = Progress(running(0), 1.0)
    progress.add(running(5), 1.0)
    assert progress.rate == 0.0
    assert progress.eta_s is None


def test_rate_falls_to_zero_when_nothing_ends() -> None:
    """A stalled batch shows 0/s after one SPAN_S."""
    progress = Progress(running(0), 0.0)
    progress.add(running(50), 1.0)
    for second in range(2, 2 + int(SPAN_S) + 1):
        progress.add(running(50), float(second))
    assert progress.rate == 0.0
    assert progress.eta_s is None


def test_eta_is_unknown_while_the_source_is_open() -> None:
    """The length of a stream is not known in advance."""
    progress = Progress(running(0, None), 0.0)
    progress.add(running(10, None), 1.0)
    assert progress.eta_s is None
    assert "ETA ?" in progress.line()


def test_80_columns_show_done_rate_eta_cost_and_refusals() -> None:
    """The end of the line was cut. Refusals count from the first sample."""
    before = Counts(total=1200, queued=1200, refused=7)
    progress = Progress(before, 0.0)
    now = Counts(
        total=1200,
        queued=190,
        in_flight=10,
        succeeded=990,
        failed=10,
        stop_reasons={"end_turn": 885, "max_tokens": 105},
        input_tokens=1_234_567,
        output_tokens=890,
        nanodollars=1_234_000_000,
        refused=9,
    )
    progress.add(now, 10.0)
    assert f"reviews-2026-11: {progress.line()}".startswith(
        "reviews-2026-11: 1,000/1,200 done · 100.0/s · ETA 2s · $1.23 · 2 refused (429) · "
    )
    assert progress.line().endswith(
        "10 failed · 105 cut at max_tokens · 10 in flight · 1.2M in + 890 out tokens"
    )


def test_a_finished_batch_has_no_eta() -> None:
    """When all jobs are done, nothing remains."""
    progress = Progress(running(100), 0.0)
    assert progress.eta_s == 0.0
    assert "ETA" not in progress.line()


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (1000, "1.0k"), (999_949, "999.9k"), (999_950, "1.0M"), (3e9, "3.0G")],
)
def test_short_numbers_keep_their_size(number: int, text: str) -> None:
    """Token counts reach billions; the line must stay short."""
    assert short(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "?"),
        (0.4, "0s"),
        (59.6, "1m 00s"),
        (185, "3m 05s"),
        (7620, "2h 07m"),
        (90_000, "1d 01h"),
    ],
)
def test_durations_have_their_two_largest_units(seconds: float | None, text: str) -> None:
    """Smaller units do not matter next to the largest two."""
    assert duration(seconds) == text
