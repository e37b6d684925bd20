"""The state of a batch changes only as its table says, whatever asks for it, and in any order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from nightmill.errors import BatchEndedError, QueueFullError
from nightmill.queue import keys, wire
from nightmill.queue.batches import Batches
from nightmill.queue.connection import connect
from nightmill.records.state import (
    BATCH_ENDED,
    BATCH_TRANSITIONS,
    BatchMove,
    BatchState,
    batch_after,
)
from nightmill.settings import load_settings
from tests.rig import hello, rigged

KEY = keys.BATCH + "b"


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    """Return a client of an empty server."""
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def batches(redis_url: str) -> AsyncIterator[Batches]:
    """Return the batches of an empty Redis."""
    async with aclosing(connect(load_settings(redis_url=redis_url))) as client:
        yield Batches(client)


def state_of(redis: Redis) -> str:
    """Return the state of the batch in Redis."""
    flag = redis.execute_command("HGET", KEY, "flag")
    return flag.decode() if flag else BatchState.OPEN


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(moves=st.lists(st.sampled_from(BatchMove), max_size=12))
def test_every_order_of_moves_follows_the_table(redis: Redis, moves: list[BatchMove]) -> None:
    """The script and the table say the same, and what ended stays ended: `pause` overwrote
    `cancelled`, and `resume` then ran the cancelled jobs.
    """
    redis.delete(KEY)
    script, state = redis.register_script(wire.script("move")), BatchState.OPEN
    for move in moves:
        known = (state, move) in BATCH_TRANSITIONS
        before, state = state, batch_after(state, move)
        assert script(args=["b", move, "why"]) == [state.encode(), int(known)]
        assert state_of(redis) == state
        reason = redis.execute_command("HGET", KEY, "reason")
        assert reason == (None if state is BatchState.OPEN else b"why")
        if before in BATCH_ENDED:
            assert state is before or move in {BatchMove.ADJUST, BatchMove.REOPEN}


def test_what_ended_opens_only_by_another_deadline_or_a_retry_of_what_was_cancelled() -> None:
    """Neither `resume` nor a second run brings a cancelled batch back."""
    after = {
        (before, move, state)
        for (before, move), (state, _) in BATCH_TRANSITIONS.items()
        if before in BATCH_ENDED
    }
    assert after == {
        (BatchState.EXPIRED, BatchMove.ADJUST, BatchState.OPEN),
        (BatchState.CANCELLED, BatchMove.REOPEN, BatchState.OPEN),
    }


@pytest.mark.parametrize("flag", [b"later", b"", b"\xff"])
def test_a_flag_of_another_program_counts_as_paused(redis: Redis, flag: bytes) -> None:
    """A newer version may have states that this one does not know."""
    script = redis.register_script(wire.script("move"))
    redis.hset(KEY, "flag", flag)  # type: ignore[arg-type]
    assert script(args=["b", "spend", ""]) == [flag, 0]
    assert script(args=["b", "resume", ""]) == [b"open", 1]


async def test_a_cancelled_batch_refuses_pause_and_resume(batches: Batches) -> None:
    """Both said that they had done it."""
    await batches.cancel("b")
    for refused in (batches.pause("b", "why"), batches.resume("b")):
        with pytest.raises(BatchEndedError, match='"b" was cancelled: nightmill retry b --canc'):
            await refused
    await batches.cancel("b")
    assert (await batches.counts("b")).state == "cancelled"


async def test_a_full_redis_still_takes_a_pause_and_a_cancellation(
    redis_url: str, redis: Redis, tmp_path: Path
) -> None:
    """A batch is often cancelled because Redis is full; both were refused (OOM)."""
    async with rigged(redis_url, tmp_path) as rig:
        batches = Batches(rig.redis)
        redis.config_set("maxmemory", 1)
        try:
            with pytest.raises(QueueFullError):
                await rig.producer.enqueue(hello())
            await batches.pause("b", "full")
            await batches.cancel("b")
        finally:
            redis.config_set("maxmemory", 0)
        assert (await batches.counts("b")).state == "cancelled"
