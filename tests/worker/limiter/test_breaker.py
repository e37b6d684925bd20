"""The breaker opens on a failing endpoint, stays open longer each time, and tries one call."""

from __future__ import annotations

from nightmill_worker.limiter.breaker import Breaker, watch


def after(
    breaker: Breaker, now: float, *, ok: int = 0, failed: int = 0, trial: str = ""
) -> Breaker:
    """Return the breaker after some calls ended. A chance of 0.5 means no jitter."""
    return watch(
        breaker,
        calls=breaker.calls + ok + failed,
        failed=breaker.failed + failed,
        trial=trial,
        now=now,
        chance=0.5,
    )


def test_eight_failures_in_a_row_open_it() -> None:
    """Fewer failures happen by chance."""
    assert after(Breaker(), 1.0, failed=7).state == "closed"
    assert after(Breaker(), 1.0, failed=8).state == "open"


def test_one_percent_of_many_calls_is_no_outage() -> None:
    """With a count alone, a lane of 1,000 calls a second kept 44 % of its throughput."""
    breaker = Breaker()
    for tick in range(200):
        breaker = after(breaker, tick / 10, ok=99, failed=1)
    assert breaker.state == "closed"


def test_an_outage_of_a_fast_lane_opens_it_although_ten_seconds_of_good_calls_came_before() -> None:
    """The last 40 calls decide: at 100 calls a second, 10 seconds would waste 1,000 calls."""
    breaker = Breaker()
    for tick in range(100):
        breaker = after(breaker, tick / 10, ok=10)
    for tick in range(100, 104):
        breaker = after(breaker, tick / 10, failed=10)
    assert breaker.state == "open"


def test_it_stays_open_one_two_four_and_at_most_fifteen_seconds() -> None:
    """An endpoint that stays away is tried less and less often."""
    breaker, now, open_times = after(Breaker(), 0.0, failed=8), 0.0, []
    for _ in range(6):
        open_times.append(breaker.until - now)
        now = breaker.until
        breaker = after(breaker, now)
        assert breaker.state == "half"
        breaker = after(breaker, now, failed=1, trial="failed")
    assert open_times == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0]


def test_a_good_trial_closes_it_and_forgets_the_past() -> None:
    """The next outage starts with a short open time again."""
    breaker = after(after(Breaker(), 0.0, failed=8), 1.0)
    breaker = after(breaker, 1.1, ok=1, trial="ok")
    assert breaker.state == "closed"
    assert after(breaker, 2.0, failed=8).until == 3.0


def test_a_trial_that_is_a_long_call_is_waited_for() -> None:
    """A call of 60 s counted as lost, and the endpoint was tried again and again for minutes."""
    closed = after(Breaker(), 0.0, failed=8)
    trial = watch(closed, calls=8, failed=8, trial="", now=1.0, chance=0.5, length=60.0)
    assert trial.state == "half"
    assert after(trial, 170.0).state == "half"
    assert after(trial, 181.0).state == "open"


def test_answers_of_older_calls_do_not_close_it() -> None:
    """Only the trial shows whether the endpoint is back."""
    breaker = after(after(Breaker(), 0.0, failed=8), 1.0)
    assert after(breaker, 1.1, ok=50).state == "half"


def test_a_trial_lost_with_its_worker_is_followed_by_another() -> None:
    """Otherwise a breaker whose trial ran on a worker that died would stay half open for ever."""
    breaker = after(after(Breaker(), 0.0, failed=8), 1.0)
    breaker = after(breaker, 61.0)
    assert breaker.state == "open"
    assert after(breaker, breaker.until).state == "half"


def test_open_times_differ_by_a_quarter() -> None:
    """Fleets that stopped together must not come back together."""
    late = watch(Breaker(), calls=8, failed=8, trial="", now=0.0, chance=1.0)
    early = watch(Breaker(), calls=8, failed=8, trial="", now=0.0, chance=0.0)
    assert (early.until, late.until) == (0.75, 1.25)
