"""What a lane's readings say about the limit that it used."""

from __future__ import annotations

import pytest

from nightmill_worker.limiter.header_bucket import Reported
from nightmill_worker.limiter.law import Law
from nightmill_worker.limiter.records import Caps, Cost, Observed
from nightmill_worker.limiter.utilisation import READ_S, Utilisation, limits, measure
from nightmill_worker.limiter.window import Window


def observed(calls: int, *, bound: int, tokens: float = 0.0, answers: int = 1) -> Observed:
    """Return a lane after `calls` calls, `answers` answers of batch "b", and `bound` waits."""
    return Observed(
        sent=calls,
        used_output=tokens,
        bound={"requests": bound},
        costs={"b": Cost(answers=answers)},
    )


LIMITS = {"requests": 10.0, "output": 1000.0}
START, _ = measure(Utilisation(), observed(0, bound=0, answers=0), LIMITS, READ_S)


def test_the_share_is_that_of_the_tightest_limit() -> None:
    """A lane at its output limit is fully used, however few its requests are."""
    _, reading = measure(START, observed(20, bound=3, tokens=4900.0), LIMITS, 2 * READ_S)
    assert reading is not None
    assert reading.share == pytest.approx(0.98)
    assert (reading.batches, reading.seconds) == (("b",), READ_S)


def test_a_lane_without_jobs_waiting_is_not_measured() -> None:
    """Without work, an unused limit is no loss."""
    _, reading = measure(START, observed(20, bound=0), LIMITS, 2 * READ_S)
    assert reading is None


def test_a_batch_without_an_answer_is_not_charged_with_the_span() -> None:
    """The figure of a batch that ended long ago must not change."""
    _, reading = measure(START, observed(20, bound=3, answers=0), LIMITS, 2 * READ_S)
    assert reading is None


def test_there_is_no_reading_before_its_time_and_none_without_a_limit() -> None:
    """Without a limit there is no share. In one second, a slow lane may accept no call."""
    later, early = measure(START, observed(20, bound=3), LIMITS, READ_S + 1)
    assert (later, early) == (START, None)
    _, reading = measure(START, observed(20, bound=3), {}, 2 * READ_S)
    assert reading is None


def test_a_limit_is_reported_found_or_set_and_the_lowest_counts() -> None:
    """When the operator's cap is below the endpoint's limit, the cap is all that may be used."""
    reported = {"requests": Reported(limit=600.0, largest=60.0, corrected=0.0)}
    law = Law(observed=Observed(reported=reported), window=Window(cap=64.0))
    caps = Caps(requests=300.0, output=60_000.0, window=100)
    assert limits(law, caps) == {"requests": 5.0, "output": 1000.0, "window": 64.0}
