"""A refusal that may concern one request: its lane is tried with other jobs. Scripts alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis import Redis

from nightmill.queue import keys
from tests.worker.queue.desk import ACCOUNT, MODEL
from tests.worker.queue.refusals import (
    CREDIT,
    HELD,
    LINE,
    PERMISSION,
    SPEND,
    WAF,
    Fleet,
    ids,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def fleet(redis_url: str) -> Iterator[Fleet]:
    """Return a worker on an empty server."""
    with Redis.from_url(redis_url) as redis:
        yield Fleet(redis)


def test_a_success_of_another_job_fails_the_refused_one(fleet: Fleet) -> None:
    """One prompt of 60 was refused: exit 3 for ever, since each trial was that same job."""
    fleet.fill(20)
    first, *others = fleet.take(5)
    fleet.refuse(first)
    assert fleet.state() == "held"
    fleet.succeed(*others)  # they were sent before, so they say nothing
    (trial,) = fleet.take()
    assert trial["id"] != first["id"]
    assert fleet.take() == [], "one at a time"
    fleet.succeed(trial)
    assert fleet.state() == "passed"
    assert fleet.judged() == [first["id"]]


def test_two_other_jobs_that_are_refused_alike_stop_the_lane_and_nothing_fails(
    fleet: Fleet,
) -> None:
    """A permission that is missing for a model must not fail its jobs one after the other."""
    fleet.fill(20)
    refused = fleet.take(1)
    for _ in range(3):
        fleet.refuse(*refused[-1:], kind=PERMISSION)
        refused += fleet.take()
    assert len(ids(refused)) == len(refused) == 3
    assert fleet.state() == "stopped"
    assert fleet.hold()["reason"] == f"refused: {PERMISSION}"
    assert fleet.take() == []
    assert not fleet.stopped, "another model may work"


def test_a_lane_that_is_stopped_does_not_hold_up_another(fleet: Fleet) -> None:
    """A permission error for one of two models left 27 of 30 jobs of the other one undone."""
    fleet.fill(20, model="denied")
    fleet.fill(20)
    for job in fleet.take(1):
        (fleet.refuse if job["model"] == "denied" else fleet.succeed)(job)
    while fleet.state("denied") != "stopped":
        jobs = fleet.take(3)
        fleet.succeed(*(job for job in jobs if job["model"] == MODEL))
        fleet.refuse(*(job for job in jobs if job["model"] == "denied"))
    assert {job["model"] for job in fleet.take()} == {MODEL}
    assert not fleet.stopped


def test_several_models_that_are_refused_alike_stop_the_account(fleet: Fleet) -> None:
    """Then a third model need not be tried, and its jobs are not refused one after the other."""
    fleet.fill(5, model="a")
    fleet.stop_lane("a")
    fleet.fill(5, model="b")
    fleet.stop_lane("b")
    assert fleet.stopped
    assert fleet.field(LINE, "kind") == PERMISSION.encode()
    fleet.fill(5)
    assert fleet.take() == []


@pytest.mark.parametrize("kind", [WAF, PERMISSION])
def test_models_that_are_refused_beside_one_that_works_do_not_stop_the_account(
    fleet: Fleet, kind: str
) -> None:
    """A credential for one of three models has two stopped lanes, and goes on."""
    fleet.fill(5, model="a")
    fleet.stop_lane("a", kind)
    fleet.fill(5, model="b")
    fleet.refuse(*fleet.take(1), kind=kind)
    fleet.fill(1)
    fleet.succeed(*(job for job in fleet.take(9) if job["model"] == MODEL))
    assert fleet.state("b") == "held"
    fleet.redis.delete(f"{keys.LANE}{ACCOUNT}:b:slots")  # the other trial's worker died
    fleet.stop_lane("b", kind)
    assert not fleet.stopped


def test_calls_in_flight_that_are_refused_too_stop_nothing(fleet: Fleet) -> None:
    """Ten of twelve calls in flight were prompts that a firewall blocks: only trials count."""
    fleet.fill(40)
    jobs = fleet.take(12)
    fleet.refuse(*jobs[:10])
    fleet.succeed(*jobs[10:])
    assert fleet.state() == "held"
    (trial,) = fleet.take()
    assert trial["id"] not in ids(jobs[:10])
    fleet.succeed(trial)
    assert fleet.judged() == [jobs[0]["id"]], "the others are called once more: they might go"


def test_once_such_refusals_were_found_to_be_the_jobs_own_the_lane_goes_on(fleet: Fleet) -> None:
    """With 1 of 100 prompts blocked, the lane would be held most of the time."""
    fleet.fill(60)
    first = fleet.take(1)
    fleet.refuse(*first)
    fleet.succeed(*fleet.take())
    blocked, *others = [job for job in fleet.take(10) if job["verdict"] == "run"]
    fleet.refuse(blocked)
    assert fleet.state() == "passed"
    fleet.succeed(*others)  # sent before
    later = fleet.take(5)
    assert len(later) >= 4
    assert blocked["id"] not in ids(later), "it waits"
    fleet.succeed(*later)
    assert fleet.judged() == [first[0]["id"], blocked["id"]]


def test_refusals_of_later_calls_hold_the_lane_again(fleet: Fleet) -> None:
    """A permission that is taken away in mid-run must not fail jobs, whatever went before."""
    fleet.fill(60)
    fleet.refuse(*fleet.take(1))
    fleet.succeed(*fleet.take())
    assert len(fleet.judged()) == 1
    tried = set()
    for _ in range(5):
        jobs = fleet.take(2)
        fleet.refuse(*jobs)
        tried |= ids(jobs)
    assert fleet.state() == "stopped"
    assert len(tried) <= 9
    assert fleet.judged() == []


def test_only_the_answer_to_the_trial_decides_about_a_lane(fleet: Fleet) -> None:
    """Calls that were sent before the credit was used up succeed for a minute after that."""
    fleet.fill(40)
    jobs = fleet.take(12)
    fleet.refuse(jobs[0], kind=CREDIT)
    trial = fleet.take()
    fleet.succeed(*jobs[1:8])
    fleet.refuse(*jobs[8:], kind=CREDIT)
    assert fleet.state() == "held"
    assert fleet.hold()["tried"] == 0
    fleet.refuse(*trial, kind=CREDIT)
    fleet.refuse(*fleet.take(), kind=CREDIT)
    assert fleet.state() == "stopped"
    fleet.resume()
    fleet.succeed(*fleet.take())
    assert fleet.state() == "passed"
    assert fleet.judged() == [], "their refusals were about the account"


def test_a_trial_without_an_answer_is_followed_by_another(fleet: Fleet) -> None:
    """A dropped connection, a 5xx and a 429 say nothing about the refusal."""
    fleet.fill(20)
    fleet.refuse(*fleet.take(1))
    for outcome in ("failed", "unsent", "refused", "rejected"):
        (trial,) = fleet.take()
        fleet.answer(outcome, trial)
        fleet.end_pause()
        assert fleet.state() == "held"
    fleet.succeed(*fleet.take())
    assert fleet.state() == "passed"


def test_a_trial_whose_worker_died_is_followed_by_another(fleet: Fleet) -> None:
    """Its slot goes with its lease; a call that outlives its first lease keeps both."""
    fleet.fill(20)
    fleet.refuse(*fleet.take(1))
    (trial,) = fleet.take()
    assert fleet.take() == []
    fleet.redis.zadd(f"{keys.LANE}{ACCOUNT}:{MODEL}:slots", {trial["token"]: 1})
    (other,) = fleet.take()
    assert other["id"] != trial["id"]


@pytest.mark.parametrize(("refused", "state"), [(1, "passed"), (2, "stopped")])
def test_the_last_calls_in_flight_are_refused_beside_others_that_succeed(
    fleet: Fleet, refused: int, state: str
) -> None:
    """One job is refused for itself; of two, the credit may have been used up before them."""
    fleet.fill(3 + refused)
    others = fleet.take(3)
    last = fleet.take()
    assert len(last) == refused
    fleet.refuse(*last)
    fleet.succeed(*others)
    while fleet.state() == "held":
        fleet.refuse(*fleet.take())
    assert fleet.state() == state
    assert fleet.judged() == ([last[0]["id"]] if refused == 1 else [])


def test_the_only_job_of_a_lane_is_tried_itself_and_stops_it(fleet: Fleet) -> None:
    """Nothing shows whether the account or the request is refused, so nothing fails."""
    fleet.fill(1)
    for _ in range(3):
        fleet.refuse(*fleet.take())
    assert fleet.state() == "stopped"
    assert fleet.take() == []
    fleet.resume()
    fleet.refuse(*fleet.take())
    assert fleet.state() == "stopped", "one trial"


def test_a_lane_that_its_only_job_stopped_tries_the_next_other_job(fleet: Fleet) -> None:
    """One refused prompt in a quiet moment stopped all batches of its model until a `resume`."""
    fleet.fill(1)
    while fleet.state() != "stopped":
        fleet.refuse(*fleet.take(1), kind=WAF)
    assert fleet.take() == [], "the same job again would say nothing new"
    fleet.fill(5, first=1)
    (trial,) = fleet.take(5)
    assert fleet.state() == "held"
    fleet.succeed(trial)
    assert fleet.state() == "passed"
    assert fleet.take(9)


def test_the_last_job_fails_when_calls_beside_its_own_succeeded(fleet: Fleet) -> None:
    """Of a file of ten lines all are in flight at once: no other was left, and exit 3 for ever."""
    fleet.fill(10)
    blocked, *others = fleet.take()
    fleet.refuse(blocked)
    assert fleet.take() == [], "others are in flight"
    fleet.succeed(*others)
    for job in others:
        fleet.redis.zrem(job["queue"], job["id"])
    for _ in range(2):
        (trial,) = fleet.take()
        assert trial["id"] == blocked["id"]
        fleet.refuse(trial)
    assert fleet.judged() == [blocked["id"]]


def test_the_last_job_keeps_waiting_when_its_refusal_is_about_money(fleet: Fleet) -> None:
    """Credit may be used up by the very last call."""
    fleet.fill(10)
    blocked, *others = fleet.take()
    fleet.refuse(blocked, kind=CREDIT)
    fleet.succeed(*others)
    for job in others:
        fleet.redis.zrem(job["queue"], job["id"])
    for _ in range(2):
        fleet.refuse(*fleet.take(), kind=CREDIT)
    assert fleet.state() == "stopped"
    assert fleet.judged() == []


def test_a_refused_job_that_succeeds_itself_fails_no_other(fleet: Fleet) -> None:
    """Then such refusals come and go: they concern no job."""
    fleet.fill(2)
    jobs = fleet.take()
    fleet.refuse(*jobs)
    (trial,) = fleet.take()
    fleet.refuse(trial)
    (again,) = fleet.take()
    fleet.succeed(again)
    assert fleet.state() == "passed"
    assert fleet.judged() == []


def test_a_spend_limit_fails_no_job(fleet: Fleet) -> None:
    """A 429 is never the fault of one job: the others went, so it was an ordinary one."""
    fleet.fill(20)
    fleet.refuse(*fleet.take(1), kind=SPEND)
    assert fleet.hot()["refused"] == 1
    fleet.end_pause()
    fleet.succeed(*fleet.take())
    assert fleet.judged() == []


def test_refusals_of_several_kinds_stop_a_lane_too(fleet: Fleet) -> None:
    """A gateway that refuses everything may do so in two ways, in turn."""
    fleet.fill(40)
    kinds = [WAF, PERMISSION, CREDIT, SPEND, "302 text", "403 other"]
    for kind in kinds:
        fleet.refuse(*fleet.take(1), kind=kind)
        fleet.end_pause()
    assert fleet.state() == "stopped"


def test_an_aborted_job_ends_although_its_lane_is_stopped(fleet: Fleet) -> None:
    """It needs no call."""
    fleet.enqueue("single", batch="")
    for _ in range(3):
        fleet.refuse(*fleet.claim().values())
        fleet.redis.zadd(keys.QUEUE, {"single": 2}, xx=True)
    assert fleet.state() == "stopped"
    assert fleet.claim() == {}
    fleet.redis.zadd(keys.ABORTS, {"single": 1})
    assert fleet.claim()["single"]["verdict"] == "aborted"


def test_single_jobs_of_a_held_lane_let_others_pass(fleet: Fleet) -> None:
    """The shared queue mixes models: those of another one are claimed meanwhile."""
    payload = b'{"t":null,"f":"generate","a":[],"k":{"params":{"model":"n"}},"et":1}'
    for number in range(5):
        fleet.enqueue(f"m{number}", batch="")
        fleet.enqueue(f"n{number}", payload, batch="")
    fleet.refuse(*(job for job in fleet.claim(1).values()))
    found: set[str] = set()
    for _ in range(30):
        found |= {job["model"] for job in fleet.claim(2).values()}
        fleet.redis.delete(keys.SIDESTEP)
    assert found == {"m", "n"}


@pytest.mark.parametrize(
    "text", [b"no json", b"[]", b"{}", b'{"state":"held"}', b'{"state":7}', b"\xff"]
)
def test_what_is_stored_of_a_lane_and_cannot_be_read_holds_nothing(
    fleet: Fleet, text: bytes
) -> None:
    """A worker of another version, or a person, may have written it."""
    fleet.fill(5)
    fleet.redis.execute_command("HSET", HELD, MODEL, text)
    jobs = fleet.take()
    assert len(jobs) == 5
    fleet.refuse(jobs[0])
    assert fleet.state() == "held"
