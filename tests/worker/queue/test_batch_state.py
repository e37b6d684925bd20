"""What workers' scripts do to the state of a batch: only what the table of state.py has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from redis import Redis

from nightmill.queue import keys, wire
from nightmill.records.state import BATCH_TRANSITIONS, BatchMove, BatchState, batch_after
from tests.worker.queue.desk import Desk, finished

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = keys.BATCH + "b"
CANARY = 20


@pytest.fixture
def desk(redis_url: str) -> Iterator[Desk]:
    """Return a worker's view of an empty server."""
    with Redis.from_url(redis_url) as client:
        yield Desk(client)


def put(desk: Desk, state: BatchState) -> None:
    """Bring the batch into a state."""
    desk.redis.hdel(KEY, "flag", "reason")
    if state is not BatchState.OPEN:
        desk.redis.hset(KEY, mapping={"flag": state, "reason": "as it was"})


def state_of(desk: Desk) -> str:
    """Return the batch's state."""
    return desk.field(KEY, "flag").decode() or "open"


@pytest.mark.parametrize("state", BatchState)
def test_the_canary_pauses_only_a_batch_that_may_be_paused(desk: Desk, state: BatchState) -> None:
    """Calls in flight of a cancelled batch that fail alike made it `paused`, and `resume` then ran
    its cancelled jobs.
    """
    for number in range(CANARY):
        desk.enqueue(f"b:{number}")
    jobs = desk.claim().values()
    assert len(jobs) == CANARY
    put(desk, state)
    desk.finish([finished(job, status="failed", fault="404: no model") for job in jobs])
    assert state_of(desk) == batch_after(state, BatchMove.PAUSE)
    paused = (state, BatchMove.PAUSE) in BATCH_TRANSITIONS
    assert (b"failed alike" in desk.field(KEY, "reason")) == paused


@pytest.mark.parametrize("state", BatchState)
def test_a_deadline_ends_every_batch_but_a_cancelled_one(desk: Desk, state: BatchState) -> None:
    """It also ends one that is paused."""
    desk.enqueue("b:1")
    put(desk, state)
    desk.redis.hset(KEY, "limits", '{"expires_at":1}')
    _, *ended = desk.sweep()
    assert ended == [b"b"]
    assert state_of(desk) == ("cancelled" if state is BatchState.CANCELLED else "expired")


@pytest.mark.parametrize("state", BatchState)
def test_a_claim_changes_only_an_open_batch(desk: Desk, state: BatchState) -> None:
    """A budget that is spent, and limits that cannot be read."""
    for limits, after in (
        ('{"budget_usd":1}', "budget"),
        ('{"weight":"heavy"}', "paused"),
    ):
        put(desk, BatchState.OPEN)
        desk.enqueue("b:" + after)
        put(desk, state)
        desk.redis.hset(KEY, mapping={"limits": limits, "unpriced": 1})
        assert desk.claim() == {}
        assert state_of(desk) == (after if state is BatchState.OPEN else state)


def test_a_full_redis_takes_every_script_but_an_enqueue(desk: Desk) -> None:
    """Only an enqueue needs memory; a lock that was not renewed let a second feeder in."""
    desk.enqueue("b:1")
    scripts: dict[str, list[str | int]] = {
        "feeder": ["b", "me", "", 15_000],
        "move": ["b", "pause", "full"],
        "cancellation": [keys.batch_queue("b", "m"), "b", "me", 0, 10],
        "reconcile": ["c", 0, "succeeded", 1],
        "counts": ["b"],
    }
    desk.redis.config_set("maxmemory", 1)
    try:
        for name, args in scripts.items():
            desk.redis.register_script(wire.script(name))(args=args)
    finally:
        desk.redis.config_set("maxmemory", 0)
    assert desk.field(KEY, "flag") == b"paused"
    assert desk.redis.get(keys.FEEDER + "b") == b"me"
