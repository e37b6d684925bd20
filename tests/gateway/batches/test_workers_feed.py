"""Once a batch is accepted, workers bring it to its end: no gateway need run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nightmill.message_batches.feeding import BatchFeeding
from nightmill.records.job import now_ms
from nightmill.records.state import JobState
from nightmill.store.message_batches import MessageBatches
from nightmill_worker.events import LoopFailed
from nightmill_worker.fleet import message_batches
from nightmill_worker.fleet.message_batches import KeptBatches
from tests.gateway.batches.made import created, results
from tests.gateway.batches.test_feeding import fed
from tests.gateway.door import opened
from tests.rig import until

if TYPE_CHECKING:
    from nightmill.records.message_batch import MessageBatch
    from nightmill_worker.events import Event
    from tests.rig import Rig


async def accepted(rig: Rig, count: int, expires_s: float = 3600) -> str:
    """Create a batch through a gateway that is gone when this returns; 4 requests may be fed."""
    async with opened(rig.settings.model_copy(update={"window": 4})) as door:
        batch = await created(door, count, nightmill={"expires_in": expires_s})
        await fed(door, batch, 4)
        return batch


async def found(rig: Rig, batch: str) -> MessageBatch:
    """Return the batch as the store has it."""
    there = await MessageBatches(rig.store).get("default", batch)
    assert there is not None
    return there


async def over(rig: Rig, batch: str) -> MessageBatch:
    """Wait until the store says that the batch has ended."""

    async def look() -> bool:
        return (await found(rig, batch)).ended_at is not None

    await until(look)
    return await found(rig, batch)


async def test_workers_feed_a_batch_and_end_it(rig: Rig) -> None:
    """The rest of the requests is fed, each is called once, and the end is noted with counts."""
    batch = await accepted(rig, 30)
    async with rig.working(window=5):
        ended = await over(rig, batch)
    assert (ended.succeeded, ended.errored, ended.canceled, ended.expired) == (30, 0, 0, 0)
    assert rig.calls() == 30
    async with opened(rig.settings) as door:
        assert len(await results(door, batch)) == 30


async def test_two_workers_and_a_gateway_feed_it_once(rig: Rig) -> None:
    """The feeder's lock lets one of them feed."""
    batch = await accepted(rig, 60)
    async with rig.working(), rig.working(), opened(rig.settings):
        assert (await over(rig, batch)).succeeded == 60
    assert rig.calls() == 60


async def test_a_redis_that_lost_everything_is_fed_again_by_workers(rig: Rig) -> None:
    """The store has the requests."""
    batch = await accepted(rig, 20)
    await rig.redis.execute_command("FLUSHALL")
    async with rig.working():
        assert (await over(rig, batch)).succeeded == 20
    assert rig.calls() == 20


@pytest.mark.parametrize("how", ["paused", "full", "cancelled in Redis", "cancelled in the store"])
async def test_workers_end_what_is_not_called(rig: Rig, how: str) -> None:
    """A paused batch ends at its deadline, too; those that were never fed get their rows."""
    batch = await accepted(rig, 12, expires_s=3)
    batches = rig.producer.batch(batch)
    if how == "paused":
        await batches.pause("test")
    elif how == "cancelled in Redis":
        await batches.cancel()
    elif how == "cancelled in the store":  # the gateway ended before it wrote to Redis
        await MessageBatches(rig.store).cancel(await found(rig, batch), now_ms())
    async with rig.working(only_batch="another"):
        ended = await over(rig, batch)
    state = JobState.CANCELLED if how.startswith("cancelled") else JobState.EXPIRED
    assert (ended.canceled, ended.expired) == ((12, 0) if state == "cancelled" else (0, 12))
    assert (await rig.store.counts(batch))[state] == 12
    assert rig.calls() == 0


async def test_workers_remove_a_deleted_batch(rig: Rig) -> None:
    """The gateway that was asked may stop before it has removed the rows."""
    batch = await accepted(rig, 6)
    async with rig.working():
        ended = await over(rig, batch)
    spent = (await rig.store.spent(batch)).cost
    await MessageBatches(rig.store).delete(ended, now_ms())
    async with rig.working():

        async def gone() -> bool:
            pages = [each async for each in MessageBatches(rig.store).requests(batch)]
            return not pages and not await MessageBatches(rig.store).unfinished()

        await until(gone)
    assert not sum((await rig.store.counts(batch)).values())
    assert (await rig.store.spent(batch)).cost == spent > 0


async def test_a_fleet_without_such_batches_does_not_pay(rig: Rig) -> None:
    """A look is one query of the store every IDLE_S, and no command to Redis."""

    class Untouched:
        def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - every command of Redis
            if name == "register_script":
                return lambda _: None
            raise AssertionError(name)

    events: list[Event] = []
    kept = KeptBatches(rig.settings, Untouched(), rig.store, events.append)  # type: ignore[arg-type]
    assert kept.pause_s == message_batches.LOOK_S
    await kept.look()
    assert kept.pause_s == message_batches.IDLE_S
    await kept.close()
    assert not events


async def test_a_defect_in_one_batch_is_an_event(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other batches go on, and the worker too."""
    first = await accepted(rig, 5)
    second = await accepted(rig, 5)
    step = BatchFeeding.step

    async def broken(self: BatchFeeding) -> bool:
        if self.name == first:
            raise ZeroDivisionError
        return await step(self)

    monkeypatch.setattr(BatchFeeding, "step", broken)
    async with rig.working():
        await over(rig, second)
    (event,) = rig.events_of(LoopFailed)
    assert (event.loop, event.problem) == (f"batch {first}", "ZeroDivisionError: ")
