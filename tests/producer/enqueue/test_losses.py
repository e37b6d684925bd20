"""A Redis that loses jobs, and with them every count of them: the store and the source know."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from nightmill.enqueue import known
from nightmill.enqueue.changes import Changed
from nightmill.enqueue.fed import Fed
from nightmill.enqueue.feeder import Feeder
from nightmill.errors import BatchEndedError
from nightmill.maintenance.cancellation import Cancellation
from nightmill.maintenance.prune import prune
from nightmill.queue import keys
from nightmill.queue.batches import Batches
from nightmill.records.limits import Limits
from nightmill.sources import Line
from nightmill.store import StoredBatch
from tests.producer.enqueue.test_feeder import lines
from tests.producer.store.samples import numbered
from tests.rig import Rig, rigged


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for signs of life of workers: none runs here."""
    monkeypatch.setattr(known, "SIGN_OF_LIFE_S", 0.0)


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig without workers."""
    async with rigged(redis_url, tmp_path) as made:
        yield made


def feeder(rig: Rig, changed: Changed | None = None) -> Feeder:
    """Return a feeder of the batch "night"."""
    return Feeder("night", rig.producer, Batches(rig.redis), rig.store, changed)


async def fed(rig: Rig, source: Iterator[Line]) -> Fed:
    """Feed `source` with a feeder of its own."""
    async with feeder(rig) as one:
        return await one.feed(source)


async def total(rig: Rig) -> int | None:
    """Return the batch's total in the store."""
    found = await rig.store.known("night")
    return None if found is None else found.total


async def test_a_redis_that_lost_everything_does_not_count_as_done(rig: Rig) -> None:
    """With the total, the counts of the missing jobs were gone: 10 of 60 rows, exit code 0."""
    async with feeder(rig) as one:
        await one.feed(lines(6))
        await rig.redis.flushall()
        assert await one.missing(lines(6)) == 6
        await one.reopen(Limits())
        assert await one.feed(lines(6)) == Fed(new=6)
        await rig.work_off()
        assert await one.missing(lines(6)) == 0
    assert (await Batches(rig.redis).counts("night")).done


@pytest.mark.parametrize("lost", ["queue", "queues of the batch", "counts", "payloads"])
async def test_a_redis_that_lost_a_part_of_a_batch_gets_it_again(rig: Rig, lost: str) -> None:
    """The counts never came to zero, or the payloads that were left said "queued already"."""
    batches = Batches(rig.redis)
    async with feeder(rig) as one:
        await one.feed(lines(6))
        await rig.redis.hset(keys.BATCH + "night", "in_flight", "2")  # type: ignore[misc]
        (queue,) = await rig.redis.smembers(keys.QUEUES_OF + "night")  # type: ignore[misc]
        payloads = [keys.PAYLOAD + keys.job_id("night", f"c{n}") for n in range(1, 7)]
        parts = {
            "queue": [queue],
            "queues of the batch": [keys.QUEUES_OF + "night"],
            "counts": [keys.BATCH + "night"],
            "payloads": payloads,
        }
        await rig.redis.delete(*parts[lost])
        if lost in {"counts", "payloads"}:  # the jobs, or their places, are there: workers go on
            await rig.work_off()
        counts = await batches.counts("night")
        assert counts.drained
        assert await one.missing(lines(6)) == (0 if lost == "counts" else 6)
        await one.reopen(Limits())
        await one.feed(lines(6))
        await rig.work_off()
        assert await one.missing(lines(6)) == 0
    counts = await batches.counts("night")
    assert (counts.done, counts.succeeded, counts.in_flight) == (True, 6, 0)


async def test_rows_of_other_jobs_do_not_stand_for_missing_ones(rig: Rig) -> None:
    """Another producer adds jobs to the batch: a count of rows alone would be enough."""
    async with feeder(rig) as one:
        await one.feed(lines(5))
        await rig.work_off()
        await rig.store.record([numbered(seq) for seq in (101, 102)])
        assert await one.missing(lines(5)) == 0
        await rig.store.prune("night", before_ms=None)
        await rig.store.record([numbered(seq) for seq in range(101, 106)])
        assert await one.missing(lines(5)) == 5


async def test_a_rerun_that_redis_lost_is_missing(rig: Rig) -> None:
    """Its row is there, of the run before: the new request was never called."""
    await fed(rig, lines(3))
    await rig.work_off()
    source = [*lines(1, "another"), *lines(2, first=2)]
    async with feeder(rig, "rerun") as one:
        assert (await one.feed(iter(source))).changed == 1
        await rig.redis.flushall()
        assert await one.missing(iter(source)) == 1
        await one.reopen(Limits())
        await one.feed(iter(source))
        await rig.work_off()
        assert await one.missing(iter(source)) == 0


async def test_the_total_and_the_source_stand_in_the_store(rig: Rig) -> None:
    """While a source is fed, its total is not known; a total of before stays."""
    async with feeder(rig) as one:
        assert await rig.store.known("night") == StoredBatch(state="feeding")
        await one.feed(lines(4))
        stored = StoredBatch(
            state="fed", total=4, source=str(one._ids), estimate=one._whole.facts[2]
        )
        assert await rig.store.known("night") == stored
    async with feeder(rig):
        assert await total(rig) == 4
    assert known.total_of(await Batches(rig.redis).counts("night"), stored) == 4


async def test_a_shorter_source_does_not_hide_lost_jobs(rig: Rig) -> None:
    """3 of 5 jobs were lost with Redis. Someone feeds 2 others, and all would be well."""
    await fed(rig, lines(5))
    await rig.redis.flushall()
    await fed(rig, lines(2, first=6))
    await rig.work_off()
    assert await total(rig) == 5
    counts = await Batches(rig.redis).counts("night")
    assert (counts.done, counts.lost) == (False, 3)


async def test_a_pruned_batch_has_a_smaller_total(rig: Rig) -> None:
    """Rows that a person deleted are not missing."""
    await fed(rig, lines(4))
    await rig.work_off()
    await rig.store.record([numbered(1, finished_at=1)])
    await Batches(rig.redis).set_total("night", 5)
    assert await prune("night", rig.store, Batches(rig.redis), before_ms=2) == 1
    assert await total(rig) == 4
    await prune("night", rig.store, Batches(rig.redis))
    assert await rig.store.all_known() == {}


@pytest.mark.parametrize("flag", ["cancelled", "expired"])
async def test_a_batch_that_ended_stays_so_when_redis_forgets_it(rig: Rig, flag: str) -> None:
    """Feeding it again would have called all jobs that a person had cancelled."""
    batches = Batches(rig.redis)
    await fed(rig, lines(4))
    await batches.end("night", flag)
    await Cancellation(rig.redis, rig.store, rig.settings).run("night")
    await rig.redis.flushall()
    with pytest.raises(BatchEndedError):
        await fed(rig, lines(4))
    counts = await batches.counts("night")
    assert (counts.flag, counts.total) == (flag, 4)
    assert counts.reason == f"it was {flag} before Redis lost it"


async def test_a_batch_that_ended_while_it_was_fed_is_noted_as_ended(rig: Rig) -> None:
    """No row of a cancellation says so when all its jobs are in flight."""
    async with feeder(rig) as one:
        await Batches(rig.redis).cancel("night")
        assert (await one.feed(lines(4))).cut_short
    stored = await rig.store.known("night")
    assert stored is not None
    assert stored.state == "cancelled"


async def test_limits_come_back_with_the_batch(rig: Rig) -> None:
    """A batch must not go on without its budget."""
    limits = Limits(budget_tokens=5, weight=7)
    async with feeder(rig) as one:
        await rig.redis.flushall()
        await one.reopen(limits)
    assert (await Batches(rig.redis).counts("night")).limits == limits


async def test_workers_that_live_put_their_jobs_back_before_anything_is_fed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their calls in flight would be made, and paid for, a second time."""
    await fed(rig, lines(4))
    await rig.redis.flushall()
    monkeypatch.setattr(known, "SIGN_OF_LIFE_S", 20.0)
    feeding = asyncio.create_task(fed(rig, lines(4)))
    assert not (await asyncio.wait([feeding], timeout=0.3))[0], "a worker may still live"
    await rig.redis.hset(keys.WORKERS, "w", "1 running=1 held=1")  # type: ignore[misc]
    job_id, queue = keys.job_id("night", "c1"), keys.batch_queue("night", rig.settings.model)
    await rig.redis.set(keys.PAYLOAD + job_id, b"{}")  # it puts a job back
    await rig.redis.zadd(queue, {job_id: 1})
    await rig.redis.sadd(keys.QUEUES_OF + "night", queue)  # type: ignore[misc]
    assert await feeding == Fed(new=3, queued_already=1)


async def test_without_a_loss_nothing_waits(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows are there, or the batch was never fed."""
    monkeypatch.setattr(known, "SIGN_OF_LIFE_S", 3600.0)
    await fed(rig, lines(2))
    await rig.work_off()
    await rig.redis.flushall()
    assert await fed(rig, lines(2)) == Fed(stored_already=2)
