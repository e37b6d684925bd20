"""The breaker: opens on a failing endpoint, rests longer each time, tries with one call."""

from __future__ import annotations

from nightmill_worker.limiter.breaker import Breaker, watch


def fed(breaker: Breaker, now: float, *, ok: int = 0, failed: int = 0, trial: str = "") -> Breaker:
    """Let calls end and look at the breaker, with a chance in the middle (no jitter)."""
    return watch(
        breaker,
        calls=breaker.calls + ok + failed,
        failed=breaker.failed + failed,
        trial=trial,
        now=now,
        chance=0.5,
    )


def test_eight_failures_in_a_row_open_it() -> None:
    """Fewer are bad luck."""
    assert fed(Breaker(), 1.0, failed=7).state == "closed"
    assert fed(Breaker(), 1.0, failed=8).state == "open"


def test_one_percent_of_many_calls_is_no_outage() -> None:
    """An absolute count alone left 44 % of the throughput at 1,000 calls a second."""
    breaker = Breaker()
    for tick in range(200):
        breaker = fed(breaker, tick / 10, ok=99, failed=1)
    assert breaker.state == "closed"


def test_an_outage_of_a_fast_lane_is_seen_before_ten_seconds_of_good_calls_are_forgotten() -> None:
    """The last calls count, not the last seconds alone: at 100/s those are 1,000 wasted ones."""
    breaker = Breaker()
    for tick in range(100):
        breaker = fed(breaker, tick / 10, ok=10)
    for tick in range(100, 104):
        breaker = fed(breaker, tick / 10, failed=10)
    assert breaker.state == "open"


def test_it_rests_one_two_four_and_at_most_fifteen_seconds() -> None:
    """An endpoint that stays away is asked less and less."""
    breaker, now, rests = fed(Breaker(), 0.0, failed=8), 0.0, []
    for _ in range(6):
        rests.append(breaker.until - now)
        now = breaker.until
        breaker = fed(breaker, now)
        assert breaker.state == "half"
        breaker = fed(breaker, now, failed=1, trial="failed")
    assert rests == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0]


def test_a_good_trial_closes_it_and_forgets_the_past() -> None:
    """The next outage starts with a short rest again."""
    breaker = fed(fed(Breaker(), 0.0, failed=8), 1.0)
    breaker = fed(breaker, 1.1, ok=1, trial="ok")
    assert breaker.state == "closed"
    assert fed(breaker, 2.0, failed=8).until == 3.0


def test_answers_of_older_calls_do_not_close_it() -> None:
    """Only the trial knows whether the endpoint is back."""
    breaker = fed(fed(Breaker(), 0.0, failed=8), 1.0)
    assert fed(breaker, 1.1, ok=50).state == "half"


def test_a_trial_lost_with_its_worker_is_followed_by_another() -> None:
    """A breaker that waits for a dead worker would stay half open for ever."""
    breaker = fed(fed(Breaker(), 0.0, failed=8), 1.0)
    breaker = fed(breaker, 61.0)
    assert breaker.state == "open"
    assert fed(breaker, breaker.until).state == "half"


def test_rests_differ_by_a_quarter() -> None:
    """Fleets that were stopped together must not come back together."""
    late = watch(Breaker(), calls=8, failed=8, trial="", now=0.0, chance=1.0)
    early = watch(Breaker(), calls=8, failed=8, trial="", now=0.0, chance=0.0)
    assert (early.until, late.until) == (0.75, 1.25)
