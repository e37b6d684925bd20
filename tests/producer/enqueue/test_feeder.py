"""Feeding a batch, with a real Valkey, a real store, and workers where they are needed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from nightmill.enqueue.changes import Changed
from nightmill.enqueue.fed import Fed
from nightmill.enqueue.feeder import Feeder
from nightmill.enqueue.feeder_lock import FeederLock
from nightmill.errors import BatchBusyError, BatchChangedError, InvalidParamsError
from nightmill.params import Defaults, check
from nightmill.queue import keys
from nightmill.queue.batches import Batches
from nightmill.records.state import JobState
from nightmill.sources import Line, Rejected
from tests.rig import Rig, rigged

DEFAULTS = Defaults(model="model", max_tokens=50, max_payload_bytes=1 << 20)


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig without workers."""
    async with rigged(redis_url, tmp_path) as made:
        yield made


def lines(number: int, text: str = "prompt", first: int = 1) -> Iterator[Line]:
    """Yield `number` lines; the same arguments give the same requests."""
    for i in range(first, first + number):
        messages = [{"role": "user", "content": f"{text} {i}"}]
        checked = check({"messages": messages}, DEFAULTS)
        yield Line(number=i, custom_id=f"c{i}", body=checked.body, model=checked.model)


def feeder(rig: Rig, changed: Changed | None = None, *, stored: bool = True) -> Feeder:
    """Return a feeder of the batch "night"."""
    store = rig.store if stored else None
    return Feeder("night", rig.producer, Batches(rig.redis), store, changed)


async def fed(rig: Rig, source: Iterator[Line], changed: Changed | None = None) -> Fed:
    """Feed `source` with a feeder of its own."""
    async with feeder(rig, changed) as one:
        return await one.feed(source)


async def test_feeding_again_enqueues_only_what_is_new(rig: Rig) -> None:
    """Ids come from the lines, so the same command can always be run again."""
    assert await fed(rig, lines(5)) == Fed(new=5)
    assert await fed(rig, lines(7)) == Fed(new=2, queued_already=5)
    await rig.work_off()
    assert await fed(rig, lines(8)) == Fed(new=1, stored_already=7)
    await rig.work_off()
    assert rig.calls() == 8
    counts = await Batches(rig.redis).counts("night")
    assert (counts.total, counts.succeeded, counts.done) == (8, 8, True)


async def test_rows_have_the_line_numbers_of_the_source(rig: Rig) -> None:
    """An export is ordered by them."""
    await fed(rig, lines(3))
    await rig.work_off()
    assert [row.seq async for row in rig.store.stream("night", ordered=True)] == [1, 2, 3]


async def test_a_stored_job_is_skipped_after_redis_was_wiped(rig: Rig) -> None:
    """The store decides what was paid already."""
    await fed(rig, lines(4))
    await rig.work_off()
    await rig.redis.flushall()
    assert await fed(rig, lines(4)) == Fed(stored_already=4)
    assert (await Batches(rig.redis).counts("night")).done


async def test_a_job_without_a_row_runs_even_if_redis_has_its_result(rig: Rig) -> None:
    """After results.db was removed, the results that Redis keeps for an hour must not count."""
    await fed(rig, lines(2))
    job = keys.job_id("night", "c1")
    await rig.redis.set(keys.RESULT + job, b"{}")
    await rig.redis.delete(keys.PAYLOAD + job)
    assert await fed(rig, lines(2)) == Fed(new=1, queued_already=1)


async def test_without_a_store_redis_decides_what_is_finished(rig: Rig) -> None:
    """The base install can feed too."""
    await fed(rig, lines(2))
    await rig.work_off()
    async with feeder(rig, stored=False) as one:
        assert await one.feed(lines(3)) == Fed(new=1, stored_already=2)


async def test_a_changed_request_is_refused_before_anything_is_enqueued(rig: Rig) -> None:
    """Neither keeping the old answer nor paying again is right without a decision."""
    await fed(rig, lines(2))
    await rig.work_off()
    source = [*lines(2, first=3), *lines(1, "another text")]
    async with feeder(rig) as one:
        with pytest.raises(BatchChangedError, match=r'line 1: "c1".*--changed rerun') as refused:
            await one.check(source)
    assert "--changed keep" in str(refused.value)
    assert (await Batches(rig.redis).counts("night")).queued == 0


async def test_changed_keep_leaves_the_stored_row(rig: Rig) -> None:
    """The answer to the old request stays, and no call is made."""
    await fed(rig, lines(2))
    await rig.work_off()
    again = await fed(rig, lines(2, "another text"), "keep")
    assert again == Fed(stored_already=2, changed=2)


async def test_changed_rerun_replaces_the_row_and_is_counted_once(rig: Rig) -> None:
    """A job's next run takes it out of its old count, so that counts still add up."""
    batches = Batches(rig.redis)
    await fed(rig, lines(3))
    await rig.work_off()
    source = [*lines(1, "another text"), *lines(2, first=2)]
    assert await fed(rig, iter(source), "rerun") == Fed(new=1, stored_already=2, changed=1)
    counts = await batches.counts("night")
    assert (counts.queued, counts.succeeded, counts.total) == (1, 2, 3)
    await rig.work_off()
    row = await rig.row(keys.job_id("night", "c1"))
    assert (row.run, row.status, b"another text" in bytes(row.params or b"")) == (
        1,
        JobState.SUCCEEDED,
        True,
    )
    assert (await batches.counts("night")).done
    assert await fed(rig, iter(source)) == Fed(stored_already=3)


async def test_a_stream_stops_at_its_first_bad_line(rig: Rig) -> None:
    """The lines before it are fed, and the caller can say how many they were."""
    bad = Rejected(number=4, error=InvalidParamsError("messages", "empty", line=4), snippet="")
    async with feeder(rig) as one:
        source: list[Line | Rejected] = [*lines(3), bad, *lines(2, first=5)]
        with pytest.raises(InvalidParamsError, match="line 4"):
            await one.feed(source)
        assert one.fed == Fed(new=3)
    counts = await Batches(rig.redis).counts("night")
    assert (counts.queued, counts.total) == (3, None)


async def test_no_more_jobs_than_the_window_are_in_redis(redis_url: str, tmp_path: Path) -> None:
    """The window bounds Redis's memory, however long the source is."""
    async with rigged(redis_url, tmp_path, window=8) as rig:
        batches = Batches(rig.redis)
        async with feeder(rig) as one:
            feeding = asyncio.create_task(one.feed(lines(30)))
            async with rig.working(), asyncio.timeout(60):
                while not feeding.done():
                    counts = await batches.counts("night")
                    assert counts.waiting + counts.in_flight <= 8
            assert (await feeding).new == 30


async def test_a_batch_has_one_feeder_at_a_time(rig: Rig) -> None:
    """Two feeders would each set a total of their own."""
    async with feeder(rig):
        assert (await Batches(rig.redis).counts("night")).feeding
        with pytest.raises(BatchBusyError, match=r'batch "night" is being fed by process \d+'):
            await feeder(rig).__aenter__()
    async with feeder(rig):
        pass
    assert not (await Batches(rig.redis).counts("night")).feeding


async def test_the_lock_of_a_killed_feeder_is_free_at_once(rig: Rig) -> None:
    """After a kill -9 the same command works again without a wait."""
    dead = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await dead.wait()
    host = FeederLock(rig.redis, "night")._me.split()[0]
    await rig.redis.set(keys.FEEDER + "night", f"{host} {dead.pid} gone")
    assert await fed(rig, lines(1)) == Fed(new=1)


async def test_jobs_that_redis_lost_are_found_and_fed_again(rig: Rig) -> None:
    """With AOF everysec a crash may lose the jobs of a second; each line still gets a result."""
    async with feeder(rig) as one:
        await one.feed(lines(4))
        lost = keys.job_id("night", "c2")
        await rig.redis.zrem(keys.batch_queue("night", "model"), lost)
        await rig.redis.delete(keys.PAYLOAD + lost)
        await rig.work_off()
        assert await one.missing(lines(4)) == 1
        assert await one.feed(lines(4)) == Fed(new=1, stored_already=3)
        await rig.work_off()
        assert await one.missing(lines(4)) == 0
    assert (await Batches(rig.redis).counts("night")).done
