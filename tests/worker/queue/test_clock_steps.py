"""A clock of Redis that steps back holds neither lanes nor queues nor accounts for as long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nightmill.queue import keys
from tests.worker.queue.desk import ACCOUNT, LANE, MODEL, ORDERS, settlement

if TYPE_CHECKING:
    from tests.worker.queue.desk import Desk

DAY_S = 86_400.0


def test_a_clock_that_goes_back_a_day_does_not_hold_a_lane(desk: Desk) -> None:
    """A pause of a second would last a day, as would slots and limits of that time."""
    desk.enqueue("x")
    desk.enqueue("y")
    (job,) = desk.claim(1).values()
    reported = {"output": [60_000, 30_000]}
    desk.send("settle", [settlement(job, reported=reported, outcome="refused")])
    hot = desk.hot()
    ahead = {name: hot[name] + DAY_S for name in ("refilled_at", "pause_until", "cut_at")}
    told_at = {name: at + DAY_S for name, at in hot["told_at"].items()}
    desk.set_hot(**ahead | {"told_at": told_at})
    desk.redis.zadd(LANE + ":slots", {"lost": desk.now_ms() + 1000 * DAY_S + 30_000})
    desk.claim()
    hot, now = desk.hot(), desk.now_ms() / 1000
    assert all(hot[name] <= now + 5 for name in ("refilled_at", "pause_until", "cut_at"))
    assert hot["told_at"]["output"] <= now
    lost = desk.score(LANE + ":slots", "lost")
    assert lost is not None
    assert lost <= desk.now_ms() + 40_000


def test_a_clock_that_goes_back_a_day_does_not_hold_the_queues(desk: Desk) -> None:
    """Jobs enqueued, snoozed or in flight before have due times of the next day."""
    day_ms = int(1000 * DAY_S)
    for batch in ("", "b"):
        for n in range(5):
            desk.enqueue(f"{batch}{n}", batch=batch)
    for queue in (keys.QUEUE, keys.batch_queue("b", MODEL)):
        for job_id in desk.redis.execute_command("ZRANGE", queue, 0, -1):
            desk.redis.zincrby(queue, day_ms, job_id)
    desk.redis.hset(keys.SWEEP, mapping={"at": desk.now_ms() + day_ms, "looked": 9e15})
    assert desk.claim() == {}
    desk.sweep()
    assert len(desk.claim()) == 10


def test_a_trial_of_a_stopped_account_from_before_the_clock_went_back_is_over(desk: Desk) -> None:
    """Its worker may be dead; then no other trial would go for a day."""
    desk.enqueue("x")
    until_ms = desk.now_ms() + int(1000 * DAY_S)
    desk.redis.hset(keys.ACCOUNT + ACCOUNT, mapping={"state": "trying", "until_ms": until_ms})
    assert set(desk.claim()) == {"x"}


def test_a_lease_from_before_the_clock_went_back_ends_soon(desk: Desk) -> None:
    """Redis keeps the ends of keys as moments, so the lease would live for another day."""
    desk.enqueue("x")
    desk.redis.set(keys.IN_PROGRESS + "x", "dead", px=int(1000 * DAY_S))
    assert desk.claim() == {}
    assert desk.redis.execute_command("PTTL", keys.IN_PROGRESS + "x") <= 60_000


def test_a_sidestep_from_before_the_clock_went_back_is_over(desk: Desk) -> None:
    """Otherwise a closed lane at the head of the shared queue would block all others for a day."""
    for n in range(2):
        desk.enqueue(f"closed{n}", batch="")
    desk.redis.set(keys.SIDESTEP, 1, px=int(1000 * DAY_S))
    orders = {**ORDERS, "breaker": "open"}
    desk.redis.hset(LANE, mapping={"hot": "{}", "orders": msgspec.json.encode(orders).decode()})
    for _ in range(2):
        assert desk.claim(2) == {}
    assert desk.redis.execute_command("PTTL", keys.SIDESTEP) <= 250
    assert desk.due("closed0", batch="") > desk.now_ms()
