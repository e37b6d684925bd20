"""Hostile payloads, limits, records, queues and lanes in Redis stop no claim of another job."""

from __future__ import annotations

import pytest

from nightmill.queue import keys
from tests.worker.queue.desk import (
    EXACT,
    GOOD,
    LANE,
    MODEL,
    Desk,
    finished,
    finite,
    settlement,
    works,
)

PAYLOADS = [
    GOOD.replace(b'"et":1', b'"et":9223372036854775808'),
    GOOD.replace(b'"et":1', b'"et":1' + b"0" * 400),
    GOOD.replace(b'"et":1', b'"et":-1e999'),
    GOOD.replace(b'"k":{', b'"k":{"seq":9223372036854775808,"run":18446744073709551616,'),
    GOOD.replace(b'"k":{', b'"k":{"expires_at":1e400,"run":NaN,'),
    GOOD.replace(b'"max_tokens":5', b'"max_tokens":' + b"9" * 500),
    GOOD.replace(b'"t":null', b'"t":1'),
    b'{"f":"generate","k":null,"a":null}',
    b'{"f":"generate","k":{"params":{"model":"\xe9"}}}',
    b'{"f":"generate","a":[{"model":[]}],"k":[]}',
    b"{" * 2000,
    b"[]",
    b"",
    b"\x80\x04\x95pickle",
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
@pytest.mark.parametrize("batch", ["", "b"])
def test_any_payload_is_claimed_or_set_aside_and_its_neighbours_are_claimed(
    desk: Desk, payload: bytes, batch: str
) -> None:
    """Payloads come from any producer with access to Redis."""
    for job_id, each in (("a", GOOD), ("x", payload), ("z", GOOD)):
        desk.enqueue(job_id, each, batch)
    granted = desk.claim()
    assert {"a", "z"} <= set(granted)
    assert "x" in granted or desk.score(keys.FOREIGN, "x") is not None
    desk.sweep()
    desk.send("settle", [settlement(job) for job in granted.values()])
    assert desk.finish([finished(job) for job in granted.values()]) == []
    assert finite(desk.hot())


@pytest.mark.parametrize(
    "limits",
    [
        "{",
        "null",
        "7",
        '{"weight":null,"concurrency":"many","expires_at":"soon","budget_usd":null}',
        '{"weight":0,"budget_tokens":1e999,"price_in":"dear"}',
        '{"budget_usd":1,"expires_at":9223372036854775808}',
    ],
)
def test_limits_that_cannot_be_read_do_not_stop_other_batches(desk: Desk, limits: str) -> None:
    """A batch is a hash in Redis; every claim reads all of them."""
    desk.enqueue("x", batch="broken")
    desk.enqueue("y")
    desk.redis.hset(keys.BATCH + "broken", "limits", limits)
    assert "y" in desk.claim()
    desk.sweep()


@pytest.mark.parametrize("limits", ["{", "[", '{"budget_usd":"ten"}', '{"budget_tokens":NaN}'])
def test_a_batch_whose_limits_cannot_be_read_is_paused_with_a_reason(
    desk: Desk, limits: str
) -> None:
    """Without its budget it must not go on, and its owner must see why."""
    desk.enqueue("x")
    desk.redis.hset(keys.BATCH + "b", "limits", limits)
    assert desk.claim() == {}
    assert desk.field(keys.BATCH + "b", "flag") == b"paused"
    assert b"limits" in desk.field(keys.BATCH + "b", "reason")


@pytest.mark.parametrize(
    "record",
    [
        {"state": "in_flight", "calls": "nan", "claimed_at": "yesterday", "worker": "w"},
        {"state": "in_flight", "calls": "1", "deaths": "inf", "alone": "1", "proof": "x"},
        {"state": "\xff", "calls": "1e300", "counted": "-1", "refusals": "0x10", "snoozes": ""},
    ],
)
def test_a_damaged_record_does_not_stop_a_claim(desk: Desk, record: dict[str, str]) -> None:
    """Its numbers are counted from 0 again."""
    desk.enqueue("x")
    desk.enqueue("y")
    desk.redis.hset(keys.RECORD + "x", mapping=record)
    granted = desk.claim()
    assert set(granted) == {"x", "y"}
    assert all(0 <= number <= EXACT for number in granted["x"]["counts"])


def test_a_job_that_cannot_be_granted_is_put_off_and_the_others_are_granted(desk: Desk) -> None:
    """It would fail every claim of the whole fleet, for it stays at the head of its queue."""
    for job_id in ("x", "y", "z"):
        desk.enqueue(job_id)
    desk.redis.hset(keys.RECORD + "x", mapping={"state": "snoozed", "calls": "3"})
    desk.redis.set(keys.ATTEMPTS + "x", "no list")
    granted = desk.claim()
    assert set(granted) == {"y", "z"}
    assert len({job["token"] for job in granted.values()}) == 2
    assert desk.due("x") > desk.now_ms() + 50_000
    assert not desk.redis.exists(keys.IN_PROGRESS + "x")


def test_queues_that_nobody_can_claim_from_are_set_aside(desk: Desk) -> None:
    """A name that is not UTF-8, or a key of another type, fails every claim and every sweep."""
    latin = keys.batch_queue("b", "m").encode() + b"\xe9"
    desk.enqueue("y")
    desk.redis.sadd(keys.QUEUES, latin, "nightmill:queue:t:m")
    desk.redis.zadd(latin, {"x": 1})
    desk.redis.set("nightmill:queue:t:m", "no sorted set")
    assert set(desk.claim()) == {"y"}
    desk.sweep()
    assert desk.redis.smembers(keys.QUEUES) == {keys.batch_queue("b", MODEL).encode()}
    assert desk.score(keys.FOREIGN, latin) is not None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hot", "{"),
        ("hot", "null"),
        ("hot", "[]"),
        ("hot", '{"level":null,"sent":"x","told":7,"costs":[]}'),
        ("hot", '{"level":{"pace":1e999,"input":-1e300},"latency":NaN,"told":{"output":{}}}'),
        ("orders", "{"),
        ("orders", '{"window":null,"gates":{}}'),
        ("orders", '{"window":5,"pause":1,"gates":{"output":{"rate":null}}}'),
        ("orders", '{"window":5,"pause":1,"gates":{"cats":{"rate":1,"capacity":1,"reserve":0}}}'),
        ("orders", '{"window":5,"pause":1,"gates":{"pace":{"rate":0,"capacity":1,"reserve":0}}}'),
    ],
)
def test_a_damaged_lane_is_repaired_by_the_next_claim(desk: Desk, field: str, value: str) -> None:
    """Its state stays in Redis: what fails once would fail for ever."""
    desk.enqueue("x")
    (job,) = desk.claim().values()
    desk.redis.hset(LANE, field, value)
    desk.send("settle", [settlement(job)])
    assert works(desk)
    assert finite(desk.hot())


def test_what_is_sound_of_a_damaged_lane_stays(desk: Desk) -> None:
    """The counters go on, so the law goes on."""
    desk.enqueue("x")
    (job,) = desk.claim().values()
    desk.send("settle", [settlement(job)])
    desk.set_hot(told={"output": {"limit": 0, "most": 0, "corrected": 0}}, reserved="much")
    assert works(desk)
    assert (desk.hot()["sent"], desk.hot()["ok"], desk.hot()["told"]) == (2, 2, {})
