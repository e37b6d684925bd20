"""The token bucket; the test passes the time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill_worker.simulator.bucket import TokenBucket


def test_refills_continuously_up_to_its_capacity() -> None:
    """60 a minute is one a second, not 60 at the end of each minute."""
    bucket = TokenBucket(60, 1.0, 0.0)
    bucket.take(60, 0.0)
    assert bucket.remaining(0.5) == pytest.approx(0.5)
    assert not bucket.holds(1, 0.5)
    assert bucket.holds(1, 1.0)
    assert bucket.remaining(1000.0) == 60


def test_computes_seconds_until_an_amount_and_until_full() -> None:
    """The first is the retry-after, the second the reset header; they differ."""
    bucket = TokenBucket(60, 1.0, 0.0)
    bucket.take(60, 0.0)
    assert bucket.seconds_until(1, 0.25) == pytest.approx(0.75)
    assert bucket.seconds_until_full(0.25) == pytest.approx(59.75)
    assert bucket.seconds_until(10_000, 0.25) == pytest.approx(59.75)


def test_a_refill_reduces_a_debt() -> None:
    """Output that is charged as it is generated can overdraw the bucket."""
    bucket = TokenBucket(100, 10.0, 0.0)
    bucket.take(150, 0.0)
    assert bucket.remaining(0.0) == -50
    assert bucket.seconds_until(1, 0.0) == pytest.approx(5.1)


def test_a_refund_never_overfills() -> None:
    """The bucket may have refilled before the refund."""
    bucket = TokenBucket(100, 10.0, 0.0)
    bucket.take(80, 0.0)
    bucket.give_back(80, 5.0)
    assert bucket.remaining(5.0) == 100


def test_a_smaller_limit_keeps_the_units_that_fit() -> None:
    """Halving a limit takes only the units above the new capacity."""
    bucket = TokenBucket(100, 10.0, 0.0)
    bucket.resize(50, 5.0, 0.0)
    assert bucket.remaining(0.0) == 50
    bucket.take(50, 0.0)
    assert bucket.remaining(1.0) == pytest.approx(5)


def test_a_clock_that_goes_back_changes_nothing() -> None:
    """A refill is never negative."""
    bucket = TokenBucket(10, 1.0, 100.0)
    bucket.take(5, 100.0)
    assert bucket.remaining(50.0) == 5


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 20)), max_size=60))
def test_never_grants_more_than_burst_plus_refill(steps: list[tuple[float, int]]) -> None:
    """Amounts and times are arbitrary."""
    bucket, now, granted = TokenBucket(20, 3.0, 0.0), 0.0, 0
    for wait, amount in steps:
        now += wait
        if bucket.holds(amount, now):
            bucket.take(amount, now)
            granted += amount
    assert granted <= 20 + 3.0 * now + 1e-3


def test_utilisation_is_units_taken_over_units_refilled() -> None:
    """It is measured from `restart_meter` on, so that the first burst can be left out."""
    bucket = TokenBucket(60, 1.0, 0.0)
    bucket.take(60, 0.0)
    bucket.restart_meter(0.0)
    assert bucket.utilisation(0.0) is None
    bucket.take(6, 8.0)
    assert bucket.utilisation(8.0) == pytest.approx(0.75)
