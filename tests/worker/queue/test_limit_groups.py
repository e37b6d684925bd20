"""Models that share one limit of the endpoint have one lane; scripts alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from redis import Redis

from nightmill.queue import keys
from tests.worker.queue.desk import ACCOUNT, GOOD, ORDERS, settlement
from tests.worker.queue.refusals import PERMISSION, Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

SEVEN = {**ORDERS, "window": 7}
GROUPS = (("m.x", "m-", 1), ("one", "exact", 0))
FAST = GOOD.replace(b'"max_tokens":5', b'"max_tokens":5,"speed":"fast"')


@pytest.fixture
def fleet(redis_url: str) -> Iterator[Fleet]:
    """Return a worker whose models m-* share a lane, on an empty server."""
    with Redis.from_url(redis_url) as redis:
        found = Fleet(redis)
        found.groups = GROUPS
        yield found


def slots(fleet: Fleet, lane: str) -> int:
    """Return how many calls of a lane are in flight."""
    return int(fleet.redis.execute_command("ZCARD", f"{keys.LANE}{ACCOUNT}:{lane}:slots"))


def taken(fleet: Fleet, number: int) -> list[dict[str, Any]]:
    """Claim until `number` jobs are granted: the pace of a new lane spaces its first calls."""
    found: list[dict[str, Any]] = []
    for _ in range(10_000):
        found += fleet.take(999)
        if len(found) >= number:
            break
    return found


def test_models_of_a_group_draw_on_one_window_and_one_bucket(fleet: Fleet) -> None:
    """Each had a lane of its own, and together they took twice what the endpoint allows."""
    fleet.redis.hset(f"{keys.LANE}{ACCOUNT}:m.x", "orders", msgspec.json.encode(SEVEN).decode())
    for model, number in (("m-1", 7), ("m-2", 7), ("exact", 5), ("exactly", 5)):
        fleet.fill(number, model=model)
    jobs = taken(fleet, 17) + fleet.take(999)
    of = {lane: [j for j in jobs if j["lane"] == lane] for lane in ("m.x", "one", "exactly")}
    assert [len(each) for each in of.values()] == [7, 5, 5]
    assert slots(fleet, "m.x") == 7
    fleet.send("settle", [settlement(job) for job in of["m.x"]])
    assert slots(fleet, "m.x") == 0
    assert fleet.redis.smembers(keys.LANES) == {
        f"{ACCOUNT}:{lane}".encode() for lane in ("m.x", "one", "exactly")
    }


def test_a_refused_model_holds_no_other_model_of_its_lane(fleet: Fleet) -> None:
    """A permission is given for a model, a limit for a group: only that model's jobs wait."""
    fleet.fill(20, model="m-denied")
    fleet.fill(20, model="m-1")
    for job in fleet.take(1):
        (fleet.refuse if job["model"] == "m-denied" else fleet.succeed)(job)
    while fleet.state("m-denied") != "stopped":
        jobs = fleet.take(3)
        fleet.succeed(*(job for job in jobs if job["model"] == "m-1"))
        fleet.refuse(*(job for job in jobs if job["model"] == "m-denied"), kind=PERMISSION)
    assert {job["model"] for job in fleet.take()} == {"m-1"}
    assert not fleet.stopped


def test_a_success_of_another_model_fails_no_refused_job(fleet: Fleet) -> None:
    """It says nothing about the permission for this one, whose jobs would fail one by one."""
    fleet.fill(3, model="m-denied")
    refused = fleet.take(1)
    fleet.fill(9, model="m-1")
    fleet.refuse(*refused, kind=PERMISSION)
    jobs = fleet.take(20)
    fleet.succeed(*(job for job in jobs if job["model"] == "m-1"))
    trials = [job for job in jobs if job["model"] == "m-denied"]
    fleet.refuse(*trials, kind=PERMISSION)
    fleet.refuse(*fleet.take(20), kind=PERMISSION)
    assert fleet.judged() == []


def test_calls_in_fast_mode_have_a_lane_of_their_own(fleet: Fleet) -> None:
    """The endpoint has a separate limit for them, with headers of its own."""
    fleet.enqueue("slow", model="m-1")
    fleet.enqueue("fast", FAST, model="m-1")
    quoted = GOOD.replace(
        b'"messages":[]', rb'"messages":[{"role":"user","content":"\"speed\":\"fast\""}]'
    )
    fleet.enqueue("quoted", quoted, model="m-1")
    # The input of a tool is JSON in the request: such a job was in the lane of fast calls.
    tool = GOOD.replace(b'"messages":[]', b'"messages":[{"content":[{"input":{"speed":"fast"}}]}]')
    fleet.enqueue("tool", tool, model="m-1")
    found = taken(fleet, 4)
    lanes = {job["id"]: job["lane"] for job in found}
    assert lanes == {"slow": "m.x", "fast": "m.x fast", "quoted": "m.x", "tool": "m.x"}
    fleet.send("settle", [settlement(job) for job in found])
    assert (slots(fleet, "m.x"), slots(fleet, "m.x fast")) == (0, 0)
