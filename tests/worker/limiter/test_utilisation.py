"""What a lane's readings say of the limit it used."""

from __future__ import annotations

import pytest

from nightmill_worker.limiter.header_bucket import Reported
from nightmill_worker.limiter.law import Law
from nightmill_worker.limiter.probing import Window
from nightmill_worker.limiter.records import Caps, Cost, Observed
from nightmill_worker.limiter.utilisation import READ_S, Utilisation, limits, read


def seen(calls: int, *, bound: int, tokens: float = 0.0, answers: int = 1) -> Observed:
    """Return a lane that let `calls` go, answered `answers` of batch "b", and kept jobs waiting."""
    return Observed(
        sent=calls,
        used_output=tokens,
        bound={"requests": bound},
        costs={"b": Cost(answers=answers)},
    )


LIMITS = {"requests": 10.0, "output": 1000.0}
START, _ = read(Utilisation(), seen(0, bound=0, answers=0), LIMITS, READ_S)


def test_the_share_is_that_of_the_tightest_limit() -> None:
    """A lane at its output limit is fully used, however few its requests are."""
    _, reading = read(START, seen(20, bound=3, tokens=4900.0), LIMITS, 2 * READ_S)
    assert reading is not None
    assert reading.share == pytest.approx(0.98)
    assert (reading.batches, reading.seconds) == (("b",), READ_S)


def test_a_lane_without_jobs_waiting_is_not_measured() -> None:
    """An idle limit is nobody's loss."""
    _, reading = read(START, seen(20, bound=0), LIMITS, 2 * READ_S)
    assert reading is None


def test_a_batch_without_an_answer_is_not_charged_with_the_span() -> None:
    """A batch that ended long ago keeps its figure."""
    _, reading = read(START, seen(20, bound=3, answers=0), LIMITS, 2 * READ_S)
    assert reading is None


def test_nothing_is_read_before_its_time_and_nothing_without_a_limit() -> None:
    """An endpoint without limits has no share; a second of a slow lane says nothing."""
    later, early = read(START, seen(20, bound=3), LIMITS, READ_S + 1)
    assert (later, early) == (START, None)
    _, reading = read(START, seen(20, bound=3), {}, 2 * READ_S)
    assert reading is None


def test_what_is_told_found_or_allowed_is_a_limit_and_the_least_counts() -> None:
    """An operator's cap below the endpoint's limit is what there was to use."""
    told = {"requests": Reported(limit=600.0, most=60.0, corrected=0.0)}
    law = Law(seen=Observed(told=told), window=Window(roof=64.0))
    caps = Caps(requests=300.0, output=60_000.0, window=100)
    assert limits(law, caps) == {"requests": 5.0, "output": 1000.0, "window": 64.0}
