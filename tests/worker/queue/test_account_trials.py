"""A stopped account: one job is tried, and only its answer decides. Scripts alone."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from redis import Redis

from nightmill.queue import keys
from tests.worker.queue.desk import ACCOUNT, MODEL
from tests.worker.queue.refusals import LINE, PERMISSION, Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def fleet(redis_url: str) -> Iterator[Fleet]:
    """Return a worker on an empty server."""
    with Redis.from_url(redis_url) as redis:
        yield Fleet(redis)


def test_a_stop_by_401_is_at_once_and_its_trials_rotate_over_jobs(fleet: Fleet) -> None:
    """Each trial was the same job."""
    fleet.fill(5)
    fleet.answer("stop", *fleet.take(2), reason="401")
    assert fleet.stopped
    tried = []
    for _ in range(6):
        fleet.resume()
        (trial,) = fleet.take()
        tried.append(trial["id"])
        assert fleet.take() == [], "one trial"
        fleet.answer("stop", trial, reason="401")
        assert fleet.stopped
    assert all(one != other for one, other in pairwise(tried))


def test_the_only_job_may_be_the_trial_of_its_account_again(fleet: Fleet) -> None:
    """There is no other."""
    fleet.fill(1)
    for _ in range(3):
        fleet.answer("stop", *fleet.take(), reason="401")
        assert fleet.stopped
        fleet.resume()
    fleet.succeed(*fleet.take())
    assert not fleet.field(LINE, "state")


@pytest.mark.parametrize("outcome", ["ok", "failed", "rejected", "refused"])
def test_an_answer_to_a_call_before_the_trial_does_not_reopen_the_account(
    fleet: Fleet, outcome: str
) -> None:
    """A slow call from before the stop answered during the trial, and all jobs were refused."""
    fleet.fill(9)
    old, other = fleet.take(2)
    fleet.answer("stop", other, reason="401")
    fleet.resume()
    (trial,) = fleet.take()
    fleet.answer(outcome, old)
    assert fleet.field(LINE, "state") == b"trying"
    fleet.answer("stop", trial, reason="401")
    assert fleet.stopped


def test_a_refusal_of_a_call_before_the_trial_does_not_stop_the_account_again(
    fleet: Fleet,
) -> None:
    """The credential was corrected meanwhile."""
    fleet.fill(9)
    old, older, other = fleet.take(3)
    fleet.answer("stop", other, reason="401")
    fleet.resume()
    (trial,) = fleet.take()
    fleet.answer("stop", old, reason="401")
    assert not fleet.stopped
    fleet.succeed(trial)
    fleet.answer("stop", older, reason="401")
    assert not fleet.stopped
    fleet.answer("stop", *fleet.take(1), reason="401")
    assert fleet.stopped, "this one was sent after the trial"


@pytest.mark.parametrize("outcome", ["failed", "unsent"])
def test_a_trial_of_the_account_without_an_answer_is_followed_by_another(
    fleet: Fleet, outcome: str
) -> None:
    """A dropped connection says nothing about the account."""
    fleet.fill(9)
    fleet.answer("stop", *fleet.take(1), reason="401")
    fleet.resume()
    fleet.answer(outcome, *fleet.take())
    assert len(fleet.take()) == 1


def test_a_long_trial_of_the_account_is_not_followed_by_another(fleet: Fleet) -> None:
    """Its lease is prolonged while it runs; the end of its first lease was taken for its end."""
    fleet.fill(9)
    fleet.answer("stop", *fleet.take(1), reason="401")
    fleet.resume()
    (trial,) = fleet.take()
    fleet.redis.hset(LINE, "until_ms", "1")
    assert fleet.take() == []
    fleet.redis.zadd(f"{keys.LANE}{ACCOUNT}:{MODEL}:slots", {trial["token"]: 1})
    assert len(fleet.take()) == 1, "its worker died"


def test_a_trial_that_is_refused_in_another_way_opens_the_account(fleet: Fleet) -> None:
    """The credential is accepted again; the prompt of the trial is one that a firewall blocks."""
    fleet.fill(9)
    fleet.answer("stop", *fleet.take(1), reason="401")
    fleet.resume()
    fleet.refuse(*fleet.take())
    assert not fleet.field(LINE, "state")
    assert fleet.state() == "held"


def test_the_trial_of_an_account_that_several_models_stopped_opens_or_stops_it(
    fleet: Fleet,
) -> None:
    """One trial each time, and all lanes go on when it succeeds."""
    for model in ("a", "b"):
        fleet.fill(5, model=model)
        fleet.stop_lane(model)
    assert fleet.stopped
    fleet.resume()
    trial = fleet.take()
    assert len(trial) == 1
    fleet.refuse(*trial, kind=PERMISSION)
    assert fleet.stopped
    fleet.resume()
    fleet.succeed(*fleet.take())
    assert not fleet.field(LINE, "state")
    fleet.succeed(*fleet.take())
    assert {fleet.state("a"), fleet.state("b")} <= {"passed", "held"}
    assert fleet.judged() == []
