"""A Redis that has lost calls in flight: workers put their jobs back, and none is called twice."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from nightmill.enqueue.feeder import Feeder
from nightmill.errors import StoreUnavailableError
from nightmill.queue import keys
from nightmill.queue.batches import Batches
from nightmill.records.state import JobState
from nightmill.store import StoredBatch
from nightmill_worker.events import FinishRefused, JobsRestored, LeaseLost
from nightmill_worker.fleet.worker import FleetWorker
from nightmill_worker.queue.records import Late, Release
from nightmill_worker.simulator import Fault
from tests.producer.enqueue.test_feeder import lines
from tests.producer.store.samples import numbered
from tests.rig import Rig, hello, rigged, until

JOBS = 6


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return everything but a worker."""
    async with rigged(redis_url, tmp_path) as started:
        yield started


@asynccontextmanager
async def calling(rig: Rig, jobs: int = JOBS) -> AsyncIterator[FleetWorker]:
    """Run a worker whose calls of all jobs of the batch "night" are under way."""
    rig.sim.configure(latency_s=2.0)
    await rig.producer.enqueue_many(
        ({"custom_id": f"{n}", **hello(f"{n}")} for n in range(jobs)), batch="night"
    )
    async with rig.working() as worker:
        await until(lambda: rig.calls() == jobs)
        yield worker


async def rows(rig: Rig) -> int:
    """Return how many rows the batch has."""
    return (await rig.store.counts("night"))[JobState.SUCCEEDED]


async def is_empty(rig: Rig) -> bool:
    """Tell whether no job of the batch is in Redis."""
    return (await Batches(rig.redis).counts("night")).drained


async def test_calls_in_flight_are_not_made_again(rig: Rig) -> None:
    """The worker cut its own calls off (`lease lost`), and each was paid for twice."""
    async with calling(rig):
        await rig.redis.flushall()
        await until(lambda: rig.events_of(JobsRestored))
        counts = await Batches(rig.redis).counts("night")
        assert (counts.in_flight, counts.queued) == (JOBS, 0)
        assert await Batches(rig.redis).names() == ["night"]
        items = ({"custom_id": f"{n}", **hello(f"{n}")} for n in range(JOBS))
        receipts = await rig.producer.enqueue_many(items, batch="night")
        assert not any(receipt.new for receipt in receipts), "they are in flight"
        await until(lambda: is_empty(rig))
    assert (rig.calls(), await rows(rig)) == (JOBS, JOBS)
    assert not rig.events_of(LeaseLost)
    assert not rig.events_of(FinishRefused)
    assert (await Batches(rig.redis).counts("night")).succeeded == JOBS


async def test_a_job_that_was_fed_again_before_becomes_its_holders(rig: Rig) -> None:
    """The feeder was quicker than the worker's renewal; nobody has claimed the job yet."""
    async with calling(rig) as worker:
        worker._claims.stop()
        await rig.redis.flushall()
        items = ({"custom_id": f"{n}", **hello(f"{n}")} for n in range(JOBS))
        await rig.producer.enqueue_many(items, batch="night")
        await until(lambda: rig.events_of(JobsRestored))
        counts = await Batches(rig.redis).counts("night")
        assert (counts.in_flight, counts.queued) == (JOBS, 0)
        await until(lambda: is_empty(rig))
    assert (rig.calls(), await rows(rig)) == (JOBS, JOBS)


async def test_a_job_that_another_worker_has_ended_is_not_put_back(rig: Rig) -> None:
    """Redis knows nothing of it either, an hour after its end: the store tells the two apart."""
    async with calling(rig):
        ended = [numbered(1, job_id=f"night:{n}", custom_id=f"{n}") for n in range(2)]
        await rig.store.record(ended)
        await rig.redis.flushall()
        await until(lambda: len(rig.events_of(LeaseLost)) == 2)
        assert [event.jobs for event in rig.events_of(JobsRestored)] == [JOBS - 2]
        assert {event.job_id for event in rig.events_of(LeaseLost)} == {"night:0", "night:1"}
        await until(lambda: is_empty(rig))
    assert await rows(rig) == JOBS


async def test_a_job_that_another_worker_holds_by_now_stays_its(rig: Rig) -> None:
    """Two processes must not both believe that they hold it."""
    async with calling(rig, 1) as worker:
        restorer = worker._background._restorer
        record = {"state": "in_flight", "token": "another:1:1"}
        await rig.redis.hset(keys.RECORD + "night:0", mapping=record)  # type: ignore[misc]
        assert await restorer.restore(["night:0", "unknown"]) == {"night:0"}
        await rig.redis.hset(keys.RECORD + "night:0", mapping={"state": "snoozed"})  # type: ignore[misc]
        await rig.redis.hdel(keys.RECORD + "night:0", "token")  # type: ignore[misc]
        assert await restorer.restore(["night:0"]) == {"night:0"}
        await rig.redis.delete(keys.RECORD + "night:0")
        await rig.redis.set(keys.RESULT + "night:0", b"{}")
        assert await restorer.restore(["night:0"]) == {"night:0"}


async def test_while_the_store_is_away_a_call_goes_on(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can tell whether its job has ended elsewhere; the next renewal asks again."""
    async with calling(rig) as worker:
        lookup = rig.store.lookup

        async def away(_: object) -> None:
            raise StoreUnavailableError

        monkeypatch.setattr(rig.store, "lookup", away)
        await rig.redis.flushall()
        assert await worker._background._restorer.restore(["night:1"]) == set()
        monkeypatch.setattr(rig.store, "lookup", lookup)
        await until(lambda: rig.events_of(JobsRestored))
        await until(lambda: is_empty(rig))
    assert rig.calls() == JOBS


async def test_a_release_puts_its_job_back_first(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused job was forgotten: it had no row, no place in the queue, and nobody missed it."""
    rig.sim.configure(faults=(Fault(status=500, share=1.0),))
    await rig.producer.enqueue(hello(), batch="night", custom_id="0")
    async with rig.working() as worker:
        release = worker._scripts.release

        async def lose_first(items: Sequence[Release]) -> Late:
            if items:
                rig.sim.configure(faults=())
                monkeypatch.undo()
                await rig.redis.flushall()
            return await release(items)

        monkeypatch.setattr(worker._scripts, "release", lose_first)
        row = await rig.row("night:0")
    assert [attempt.outcome for attempt in row.attempts] == ["retrying", "succeeded"]
    assert worker.registry.leases == []
    assert rig.calls() == 2


async def test_the_history_of_a_job_is_put_back_with_it(rig: Rig) -> None:
    """Its row has every call, also those before the loss."""
    rig.sim.configure(faults=(Fault(status=500, share=1.0),))
    await rig.producer.enqueue(hello(), batch="night", custom_id="0")
    async with rig.working():
        await until(lambda: rig.calls() == 1)
        rig.sim.configure(faults=(), latency_s=2.0)
        await until(lambda: rig.calls() == 2)
        await rig.redis.flushall()
        await until(lambda: rig.events_of(JobsRestored))
        attempts = await rig.redis.execute_command("LRANGE", keys.ATTEMPTS + "night:0", 0, -1)
        assert [msgspec.json.decode(each)["status"] for each in attempts] == [500]
        row = await rig.row("night:0")
    assert (row.attempt_count, len(row.attempts)) == (2, 2)


async def test_the_batch_gets_its_total_back_with_its_jobs(rig: Rig) -> None:
    """A program without the store waits for it: without a total, 6 of 9 were a success."""
    async with Feeder("night", rig.producer, Batches(rig.redis), rig.store) as feeder:
        await feeder.feed(lines(JOBS))
    await rig.store.note("night", msgspec.structs.replace(await known(rig), total=9))
    rig.sim.configure(latency_s=2.0)
    async with rig.working():
        await until(lambda: rig.calls() == JOBS)
        await rig.redis.flushall()
        await until(lambda: rig.events_of(JobsRestored))
        await until(lambda: is_empty(rig))
    counts = await Batches(rig.redis).counts("night")
    assert (counts.total, counts.done, counts.lost) == (9, False, 3)


async def known(rig: Rig) -> StoredBatch:
    """Return what the store knows of the batch."""
    found = await rig.store.known("night")
    assert found is not None
    return found
