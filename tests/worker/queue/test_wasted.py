"""The scripts count what bought no result beside what was spent; scripts alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis

from nightmill.queue import keys
from tests.worker.queue.desk import Desk, finished, released

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def desk(redis_url: str) -> Iterator[Desk]:
    """Return a worker on an empty server."""
    with Redis.from_url(redis_url) as redis:
        yield Desk(redis)


def spent(desk: Desk) -> dict[str, int]:
    """Return the nano-dollars of batch "b": all, and those that were wasted."""
    names = ("nanodollars", "wasted:failed", "wasted:truncated", "wasted:repeated")
    found = desk.redis.execute_command("HMGET", keys.BATCH + "b", *names)
    return {
        name.removeprefix("wasted:"): int(number)
        for name, number in zip(names, found, strict=True)
        if number
    }


def test_each_kind_of_waste_is_counted_once(desk: Desk) -> None:
    """Status and summary say how much of the cost it is."""
    jobs: dict[str, dict[str, Any]] = {}
    for name in ("good", "bad", "cut", "broken"):
        desk.enqueue(name)
    while len(jobs) < 4:  # the pace of a new lane spaces its first calls
        jobs |= desk.claim()
    desk.send("release", [released(jobs["broken"], cost=5, input=1, output=1)])
    assert spent(desk) == {"nanodollars": 5, "repeated": 5}
    items = [
        finished(jobs["good"], cost=100, wasted={}),
        finished(jobs["bad"], status="failed", cost=20, wasted={"failed": 20}),
        finished(jobs["cut"], cost=30, wasted={"truncated": 30, "odd": 9}),
    ]
    assert desk.finish(items) == []
    assert spent(desk) == {"nanodollars": 155, "failed": 20, "truncated": 30, "repeated": 5}


def test_an_answer_that_came_late_is_a_repeated_call(desk: Desk) -> None:
    """Another worker has the job by then, and its answer is the result."""
    desk.enqueue("j")
    first = desk.claim()["j"]
    desk.redis.delete(keys.IN_PROGRESS + "j")
    desk.redis.zadd(keys.queue_of("b", "m"), {"j": 1})
    while not (again := desk.claim()):
        pass
    second = again["j"]
    assert desk.finish([finished(first, cost=40, wasted={})]) == [b"j"]
    assert desk.finish([finished(second, cost=50, wasted={})]) == []
    assert spent(desk) == {"nanodollars": 90, "repeated": 40}
