"""The feeder's lock: one feeder at a time, also while Redis is full or away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nightmill.enqueue.feeder import Feeder
from nightmill.enqueue.feeder_lock import SURE_S, FeederLock
from nightmill.errors import BatchBusyError, QueueUnavailableError
from nightmill.queue import keys
from nightmill.queue.batches import Batches
from tests.producer.enqueue.test_feeder import lines
from tests.rig import Rig, rigged

KEY = keys.FEEDER + "night"


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig without workers."""
    async with rigged(redis_url, tmp_path) as made:
        yield made


async def test_a_full_redis_takes_the_renewals(rig: Rig) -> None:
    """It refused them (OOM), nobody noticed, and after 15 s a second feeder could enter."""
    async with FeederLock(rig.redis, "night") as lock:
        await rig.redis.pexpire(KEY, 100)
        await rig.redis.config_set("maxmemory", 1)
        try:
            await lock._take()
        finally:
            await rig.redis.config_set("maxmemory", 0)
        assert await rig.redis.pttl(KEY) > 1000


async def test_a_feeder_that_lost_its_lock_stops(rig: Rig) -> None:
    """A machine that was suspended while another took the lock must not go on feeding."""
    async with Feeder("night", rig.producer, Batches(rig.redis), rig.store) as one:
        await rig.redis.set(KEY, "elsewhere 1 x")
        await one._lock._take()
        with pytest.raises(BatchBusyError, match="process 1 on elsewhere"):
            await one.feed(lines(1))
    assert await rig.redis.get(KEY) == b"elsewhere 1 x"


async def test_a_feeder_whose_lock_may_have_run_out_asks_before_it_enqueues(rig: Rig) -> None:
    """Its renewals failed for longer than the lock lives; it knew nothing of the second feeder, and
    both fed.
    """
    async with Feeder("night", rig.producer, Batches(rig.redis), rig.store) as one:
        one._lock._renewing.cancel()
        one._lock._renewed_at -= SURE_S
        await rig.redis.set(KEY, "elsewhere 1 x")
        with pytest.raises(BatchBusyError, match="process 1 on elsewhere"):
            await one.feed(lines(3))
    assert not await rig.redis.keys(keys.PAYLOAD + "*")


async def test_a_lock_that_ran_out_is_taken_again_when_it_is_free(rig: Rig) -> None:
    """A Redis that restarted without its file has no lock, and no other feeder either."""
    async with Feeder("night", rig.producer, Batches(rig.redis), rig.store) as one:
        await rig.redis.delete(KEY)
        one._lock._renewed_at -= SURE_S
        assert (await one.feed(lines(3))).new == 3
        assert (await rig.redis.get(KEY)).decode() == one._lock._me


async def test_while_redis_is_away_a_lock_that_may_have_run_out_is_not_trusted(rig: Rig) -> None:
    """The write behind it would wait for Redis, and come after the second feeder."""
    lock = FeederLock(rig.redis, "night")
    lock._script = _away  # type: ignore[assignment]
    with pytest.raises(QueueUnavailableError):
        await lock.require()


async def _away(**_: object) -> bytes:
    raise OSError


@pytest.mark.parametrize("holder", [b"x", b"\xff \xff", b"host many x", b"host 9" * 9])
async def test_a_lock_that_another_program_wrote_is_respected(rig: Rig, holder: bytes) -> None:
    """It is no process of nightmill: the error names what can be read of it."""
    await rig.redis.set(KEY, holder)
    with pytest.raises(BatchBusyError, match="is being fed by process"):
        await FeederLock(rig.redis, "night").__aenter__()


async def test_two_feeders_that_start_at_once_are_one(rig: Rig) -> None:
    """The error of the second one names the process that feeds."""
    batches = Batches(rig.redis)
    both = [Feeder("night", rig.producer, batches, rig.store) for _ in range(2)]
    entered = await asyncio.gather(*(f.__aenter__() for f in both), return_exceptions=True)
    assert sorted(isinstance(each, BatchBusyError) for each in entered) == [False, True]
    for each in entered:
        if isinstance(each, Feeder):
            await each.__aexit__()
