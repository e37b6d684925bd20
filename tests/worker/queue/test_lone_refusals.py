"""One job alone is refused, with no other one to try: what succeeded just before decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis import Redis

from nightmill.queue import keys
from tests.worker.queue.desk import finished, settlement
from tests.worker.queue.refusals import CREDIT, PERMISSION, WAF, Fleet

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def fleet(redis_url: str) -> Iterator[Fleet]:
    """Return a worker whose first job has succeeded."""
    with Redis.from_url(redis_url) as redis:
        made = Fleet(redis)
        one_more(made, 0, succeeds=True)
        yield made


def one_more(fleet: Fleet, number: int, *, kind: str = WAF, succeeds: bool = False) -> bool:
    """Enqueue the only job of the lane and call it; return whether it fails for itself."""
    fleet.fill(1, first=number)
    job = {}
    while taken := fleet.take():
        (job,) = taken
        judged = bool(fleet.redis.hget(keys.RECORD + job["id"], "judged"))
        if succeeds or judged:
            fleet.send("settle", [settlement(job, outcome="ok" if succeeds else "unsent")])
            assert fleet.finish([finished(job)]) == []
            return judged
        fleet.refuse(job, kind=kind)
    fleet.redis.zrem(job["queue"], job["id"])
    return False


@pytest.mark.parametrize("kind", [WAF, PERMISSION])
def test_it_fails_alone_after_a_call_that_succeeded(fleet: Fleet, kind: str) -> None:
    """The last prompt of a file stopped its lane when no call was in flight beside it."""
    assert one_more(fleet, 1, kind=kind)
    assert fleet.state() == "passed"


def test_it_stops_the_lane_when_its_refusal_is_about_money(fleet: Fleet) -> None:
    """Credit may be used up by the call before."""
    assert not one_more(fleet, 1, kind=CREDIT)
    assert fleet.state() == "stopped"


def test_it_stops_the_lane_when_the_last_success_is_long_ago(fleet: Fleet) -> None:
    """The permission may be gone since."""
    hot = fleet.hot()
    fleet.set_hot(ok_at=hot["ok_at"] - 61, ok_end=hot["ok_end"] - 61)
    assert not one_more(fleet, 1)
    assert fleet.state() == "stopped"


def test_the_next_one_needs_another_success(fleet: Fleet) -> None:
    """Where jobs come one at a time, a permission that is withdrawn would fail them all."""
    assert one_more(fleet, 1)
    one_more(fleet, 2, succeeds=True)
    assert one_more(fleet, 3)
    assert not one_more(fleet, 4)
    assert fleet.state() == "stopped"
