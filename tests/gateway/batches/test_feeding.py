"""A batch reaches its end whatever stops on the way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from nightmill.enqueue.feeder_lock import FeederLock
from nightmill.message_batches import keeper
from nightmill.records.message_batch import new_id
from nightmill.store.message_batches import MessageBatches
from nightmill_gateway.batches import looking
from tests.gateway.batches.made import PATH, created, ended, results
from tests.gateway.door import opened
from tests.rig import until

if TYPE_CHECKING:
    from tests.gateway.door import Door
    from tests.rig import Rig


async def fed(door: Door, batch: str, number: int) -> None:
    """Wait until `number` requests of a batch are in Redis."""

    async def look() -> bool:
        return (await door.services.batches.counts(batch)).accepted >= number

    await until(look)


async def test_no_more_than_the_window_is_in_redis(rig: Rig) -> None:
    """A batch of 100,000 large requests must not fill Redis."""
    settings = rig.settings.model_copy(update={"window": 8})
    async with opened(settings) as door:
        batch = await created(door, 40)
        await fed(door, batch, 8)
        assert (await door.services.batches.counts(batch)).accepted == 8
        async with rig.working():
            whole = await ended(door, batch)
    assert whole["request_counts"]["succeeded"] == 40
    assert rig.calls() == 40


async def test_another_gateway_goes_on(rig: Rig) -> None:
    """The first one is stopped in the middle: its batch goes on, and no call is made twice."""
    settings = rig.settings.model_copy(update={"window": 5})
    async with opened(settings) as first:
        batch = await created(first, 30)
        await fed(first, batch, 5)
    async with opened(rig.settings) as second, rig.working():
        whole = await ended(second, batch)
        assert len(await results(second, batch)) == 30
    assert whole["request_counts"]["succeeded"] == 30
    assert rig.calls() == 30


async def test_two_gateways_feed_a_batch_once(rig: Rig) -> None:
    """The feeder's lock lets one of them feed; the other answers about the batch all the same."""
    async with opened(rig.settings) as first, opened(rig.settings) as second, rig.working():
        batch = await created(first, 60)
        assert (await ended(second, batch))["request_counts"]["succeeded"] == 60
        there = await first("GET", f"{PATH}/{batch}", key=second.key)
        assert there.json["processing_status"] == "ended"
    assert rig.calls() == 60


async def test_a_redis_that_lost_everything_is_fed_again(rig: Rig, door: Door) -> None:
    """The store has the requests, so an accepted batch survives the loss of Redis."""
    batch = await created(door, 20)
    await fed(door, batch, 20)
    await rig.work_off()
    await rig.redis.execute_command("FLUSHALL")
    assert (await ended(door, batch))["request_counts"]["succeeded"] == 20
    second = await created(door, 10)
    await fed(door, second, 10)
    await rig.redis.execute_command("FLUSHALL")
    async with rig.working():
        whole = await ended(door, second)
    assert whole["request_counts"]["succeeded"] == 10
    assert rig.calls() == 30


@pytest.mark.parametrize("paused", [False, True])
async def test_what_is_not_called_in_time_expires(
    rig: Rig, paused: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also without a worker, when the batch is paused, and when the window was full."""
    monkeypatch.setattr(looking, "LOOK_S", 0.1)
    settings = rig.settings.model_copy(update={"window": 4})
    async with opened(settings) as door:
        batch = await created(door, 12, nightmill={"expires_in": 2})
        await fed(door, batch, 4)
        if paused:
            await door.services.batches.pause(batch, "test")
        whole = await ended(door, batch)
        assert whole["request_counts"]["expired"] == 12
        assert set((await results(door, batch)).values()) == {"expired"}

        async def whole_in_redis() -> bool:
            found = await door.services.batches.counts(batch)
            return (found.expired, found.total, found.lost) == (12, 12, 0)

        await until(whole_in_redis)


async def test_a_cancelled_batch_gives_every_request_a_result(rig: Rig) -> None:
    """Those that were never fed, too: a client waits for each of its requests."""
    settings = rig.settings.model_copy(update={"window": 4})
    async with opened(settings) as door:
        batch = await created(door, 30)
        await fed(door, batch, 4)
        await rig.work_off()
        await fed(door, batch, 8)
        await door.services.batches.cancel(batch)  # as `nightmill cancel` does
        whole = await ended(door, batch)
        counts = whole["request_counts"]
        assert counts["canceled"] + counts["succeeded"] == 30
        assert counts["succeeded"] >= 4
        assert whole["cancel_initiated_at"] is not None
        assert len(await results(door, batch)) == 30


async def test_a_batch_that_another_process_feeds_is_left_to_it(
    rig: Rig, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway goes on as soon as the lock is free."""
    monkeypatch.setattr(looking, "LOOK_S", 0.05)
    monkeypatch.setattr(keeper, "BUSY_S", 0.05)
    name = new_id(1)
    monkeypatch.setattr("nightmill_gateway.batches.create.new_id", lambda _: name)
    async with FeederLock(rig.redis, name):
        assert await created(door, 3) == name
        await asyncio.sleep(0)
        found = await door("GET", f"{PATH}/{name}")
        assert found.json["request_counts"]["processing"] == 3
        assert (await door.services.batches.counts(name)).accepted == 0
    await fed(door, name, 3)


async def test_remains_of_a_create_that_broke_off_are_removed(rig: Rig) -> None:
    """A gateway was killed during an upload: nothing of it was accepted, and its rows go."""
    batches = MessageBatches(rig.store)
    old, young = new_id(1), new_id(1 << 47)
    async with opened(rig.settings) as door:
        requests = [
            made async for page in batches.requests(await created(door, 2)) for made in page
        ]
    for name in (old, young):
        await batches.stage(name, requests)
    assert set(await batches.remains("n")) == {old, young}
    async with opened(rig.settings):

        async def gone() -> bool:
            return await batches.remains("n") == [young]

        await until(gone)
    assert await batches.get("default", old) is None
