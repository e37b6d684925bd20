"""Hostile values in one item of a settle, finish, release or renew: the other items go on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from nightmill.queue import keys
from tests.worker.queue.desk import (
    ACCOUNT,
    EXACT,
    LANE,
    ORDERS,
    Desk,
    finished,
    finite,
    released,
    settlement,
    works,
)

HUGE = 2**63 - 1
ids = st.sampled_from(("a", "b", "c"))
anything: Any = st.sampled_from(
    (None, True, -1, 0, HUGE, -HUGE, 1e308, -1e308, 1e15, 0.5, "", "NaN", "inf", "x", [], {}, [1])
)

BAD_SETTLEMENTS = [
    {"reservation": {}},
    {"reservation": None},
    {"reservation": {"at": "x", "in_flight": 1, "guess": {}, "mark": []}},
    {"outcome": "latency"},
    {"outcome": None},
]


@pytest.mark.parametrize("bad", BAD_SETTLEMENTS, ids=range(len(BAD_SETTLEMENTS)))
def test_a_bad_settlement_frees_its_slot_and_does_not_fail_the_others(
    desk: Desk, bad: dict[str, Any]
) -> None:
    """One failing item kept all answers of its group waiting, and then ended the worker."""
    for job_id in ("a", "x", "z"):
        desk.enqueue(job_id)
    jobs = desk.claim()
    items = [settlement(job, **(bad if job_id == "x" else {})) for job_id, job in jobs.items()]
    assert desk.send("settle", items) == 0
    assert not desk.redis.exists(LANE + ":slots")
    assert (desk.hot()["ok"], desk.hot()["unsettled"]) == (2, 1)


@pytest.mark.parametrize(
    "odd",
    [
        {"input": HUGE, "output": HUGE},
        {"input": -HUGE, "output": -1.5},
        {"input": "12", "output": "NaN"},
        {"input": None, "output": None},
        {"latency_ms": HUGE, "bytes": HUGE},
        {"latency_ms": -HUGE, "bytes": -1},
        {"latency_ms": "soon", "bytes": {}},
        {"reported": {"output": [0, 0], "input": [1e30, 1]}},
        {"reported": {"output": [HUGE, HUGE], "input": [None, "x"], "requests": 7}},
        {"reported": [1, 2]},
        {"outcome": "refused", "retry_after_ms": HUGE, "gate": 7},
        {"outcome": "refused", "retry_after_ms": "soon", "gate": []},
        {"outcome": "stop", "reason": None},
    ],
)
def test_odd_numbers_of_an_answer_are_bounded_before_they_enter_the_lane(
    desk: Desk, odd: dict[str, Any]
) -> None:
    """The whole fleet goes by the lane: a debt of 10^18 tokens would stop it for years."""
    desk.enqueue("x")
    (job,) = desk.claim().values()
    desk.send("settle", [settlement(job, **odd)])
    hot = desk.hot()
    assert finite(hot)
    assert 0 <= hot["latency"] < 60
    assert hot["told"] == {}
    assert hot["pause_until"] <= desk.now_ms() / 1000 + 900
    desk.redis.delete(keys.ACCOUNT + ACCOUNT)
    desk.enqueue("again")
    desk.claim()
    rates = {name: gate["rate"] for name, gate in ORDERS["gates"].items()}
    assert all(desk.hot()["level"][name] >= -901 * rate for name, rate in rates.items())


def test_a_call_takes_no_longer_than_has_passed_on_redis_clock(desk: Desk) -> None:
    """A worker's clock that jumped a day made a lane of 650 calls a second do 0.1."""
    desk.enqueue("x")
    (job,) = desk.claim().values()
    desk.send("settle", [settlement(job, latency_ms=86_400_000)])
    assert desk.hot()["latency"] < 60


def test_an_answer_without_usage_is_charged_what_was_reserved(desk: Desk) -> None:
    """Its tokens are unknown, not 0."""
    desk.enqueue("x")
    (job,) = desk.claim().values()
    before = desk.hot()
    desk.send("settle", [settlement(job, input=None, output=None)])
    hot = desk.hot()
    assert hot["used_output"] == before["output"] == hot["output"]
    assert hot["level"]["output"] <= before["level"]["output"] + 100
    assert hot["costs"] == {}


@pytest.mark.parametrize(
    "odd",
    [
        {"input": HUGE, "output": HUGE, "cost": HUGE},
        {"input": None, "output": "x", "cost": None},
        {"input": -5, "output": [], "cost": -HUGE},
        {"again": "no", "status": None},
        {"fault": None},
    ],
)
def test_odd_numbers_of_a_finish_do_not_fail_the_others(desk: Desk, odd: dict[str, Any]) -> None:
    """The rows of all are committed; a group that fails is claimed and finished for ever."""
    for job_id in ("a", "x", "z"):
        desk.enqueue(job_id)
    jobs = desk.claim()
    items = [finished(job, **(odd if job_id == "x" else {})) for job_id, job in jobs.items()]
    late = desk.finish(items)
    assert late in ([], [b"x"])
    assert not desk.redis.exists(keys.PAYLOAD + "a", keys.PAYLOAD + "z")
    for name in ("succeeded", "input_tokens", "output_tokens", "nanodollars", "unpriced"):
        assert 0 <= int(desk.field(keys.BATCH + "b", name) or 0) <= EXACT


def test_sums_of_a_batch_end_at_numbers_that_are_exact(desk: Desk) -> None:
    """Over 2^63 a reader's integer column cannot hold them, and NaN is no number at all."""
    desk.redis.hset(keys.BATCH + "b", mapping={"input_tokens": str(EXACT), "output_tokens": "nan"})
    desk.enqueue("x")
    (job,) = desk.claim().values()
    assert desk.finish([finished(job, input=HUGE, output=5)]) == []
    assert int(desk.field(keys.BATCH + "b", "input_tokens")) == EXACT
    assert int(desk.field(keys.BATCH + "b", "output_tokens")) == 5


@pytest.mark.parametrize(
    "odd",
    [
        {"wait_ms": HUGE},
        {"wait_ms": None, "counted": "x"},
        {"wait_ms": -HUGE, "counted": 2.5},
        {"state": None},
        {"attempt": None},
    ],
)
def test_odd_values_of_a_release_do_not_fail_the_others(desk: Desk, odd: dict[str, Any]) -> None:
    """What is not released waits for the end of its lease."""
    for job_id in ("a", "x", "z"):
        desk.enqueue(job_id)
    jobs = desk.claim()
    items = [released(job, **(odd if job_id == "x" else {})) for job_id, job in jobs.items()]
    assert desk.send("release", items) in ([], [b"x"])
    assert {"a", "z"} <= set(desk.claim())
    assert desk.due("x") <= desk.now_ms() + 3_700_000


def test_a_damaged_record_does_not_fail_the_release_of_others(desk: Desk) -> None:
    """HINCRBY refuses a field that is no integer."""
    for job_id in ("a", "x", "z"):
        desk.enqueue(job_id)
    jobs = desk.claim()
    desk.redis.hset(keys.RECORD + "x", "counted", "many")
    late = desk.send("release", [released(job, counted=1) for job in jobs.values()])
    assert late == [b"x"]
    assert {"a", "z"} <= set(desk.claim())


def test_a_bad_renewal_does_not_fail_the_others(desk: Desk) -> None:
    """Otherwise all leases of the worker would end, and all its calls would be made again."""
    for job_id in ("a", "x", "z"):
        desk.enqueue(job_id)
    jobs = desk.claim()
    for job_id in jobs:
        desk.redis.pexpire(keys.IN_PROGRESS + job_id, 1000)
    desk.redis.delete(keys.RECORD + "x")
    desk.redis.set(keys.RECORD + "x", "no hash")
    assert desk.send("renew", [{**job, "reservation": None} for job in jobs.values()]) == []
    assert desk.redis.execute_command("PTTL", keys.IN_PROGRESS + "z") > 50_000


def test_a_long_history_with_unreadable_attempts_is_still_summed_up(desk: Desk) -> None:
    """An attempt that drops out of the list is decoded."""
    desk.enqueue("x")
    (job,) = desk.claim().values()
    odd = ["{", "null", '{"duration_ms":"x","counted":false,"error_type":null}', '{"counted":1}']
    desk.redis.rpush(keys.ATTEMPTS + "x", *(odd * 10))
    desk.redis.hset(keys.RECORD + "x", "cut", '{"call_ms":null}')
    assert desk.send("release", [released(job, attempt="{}")]) == []
    assert set(desk.claim()) == {"x"}


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    fields=st.dictionaries(
        st.sampled_from(
            (
                *("outcome", "latency_ms", "bytes", "input", "output", "reported", "gate"),
                *("retry_after_ms", "reason", "reservation", "token", "model", "status", "cost"),
                *("again", "fault", "id", "queue", "wait_ms", "counted", "state", "attempt"),
            )
        ),
        anything,
        max_size=5,
    ),
    hot=st.dictionaries(
        st.sampled_from(("level", "told", "costs", "latency", "ok", "refilled_at", "output")),
        anything,
        max_size=2,
    ),
    whose=ids,
)
def test_any_values_in_one_item_leave_the_others_alone(
    redis_url: str, fields: dict[str, Any], hot: dict[str, Any], whose: str
) -> None:
    """Whatever a field holds, no script raises, and the lane works afterwards."""
    with Redis.from_url(redis_url) as client:
        client.flushall()
        desk = Desk(client)
        for job_id in ("a", "b", "c"):
            desk.enqueue(job_id)
        jobs = desk.claim()
        desk.set_hot(**hot)
        changed = {job_id: fields if job_id == whose else {} for job_id in jobs}
        desk.send("settle", [settlement(job, **changed[i]) for i, job in jobs.items()])
        desk.send("renew", [{**job, "reservation": None, **changed[i]} for i, job in jobs.items()])
        last = jobs.pop("c")
        desk.send("release", [released(last, **changed["c"])])
        desk.finish([finished(job, **changed[i]) for i, job in jobs.items()])
        for job_id in jobs:
            assert client.exists(keys.PAYLOAD + job_id) == 0 or job_id == whose
        client.delete(keys.ACCOUNT + ACCOUNT)
        client.delete(keys.BATCH + "b")
        assert works(desk)
        assert finite(desk.hot())
