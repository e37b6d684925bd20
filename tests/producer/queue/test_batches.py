"""Counts of batches, as the scripts of a real worker leave them in a real Valkey."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import msgspec
import pytest
from redis.asyncio import Redis

from nightmill.enqueue.reconcile import open_batch, reconcile
from nightmill.maintenance.cancellation import Cancellation
from nightmill.queue import keys, wire
from nightmill.queue.batches import Batches
from nightmill.records.counts import Counts
from nightmill.records.job import Job
from nightmill.reports.job_history import waiting_history
from nightmill.reports.lanes import read_lanes
from nightmill_worker.simulator import SimulatorConfig
from tests.rig import Rig, hello, rigged

JOB = Job(params=msgspec.Raw(b'{"messages":[]}'), custom_id="again", batch="night")


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """Return a client of the session's Valkey."""
    async with aclosing(Redis.from_url(redis_url)) as client:
        yield client


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig without workers."""
    async with rigged(redis_url, tmp_path) as made:
        yield made


async def enqueue(rig: Rig, batch: str | None, number: int) -> None:
    """Enqueue `number` jobs, of two models when in a batch."""
    requests = [
        {**hello(f"prompt {i}"), "custom_id": f"c{i}", "model": f"model-{i % 2}"}
        for i in range(number)
    ]
    await rig.producer.enqueue_many(requests, batch=batch)


async def test_counts_follow_jobs_from_the_queue_to_the_store(rig: Rig) -> None:
    """Every job is counted once, in any state, over all queues of its batch."""
    batches = Batches(rig.redis)
    await enqueue(rig, "night", 6)
    await enqueue(rig, None, 3)
    before = await batches.counts("night")
    assert (before.queued, before.accepted, before.total) == (6, 6, None)
    await rig.work_off()
    after = await batches.counts("night")
    assert (after.succeeded, after.accepted, after.drained) == (6, 6, True)
    assert after.input_tokens > 0
    assert after.output_tokens > 0
    singles = await batches.counts(keys.SINGLES)
    assert (singles.succeeded, singles.queued) == (3, 0)
    assert list(await batches.all()) == ["night"]


async def test_counts_add_up_while_jobs_move(rig: Rig) -> None:
    """A reader in the middle of claims and finishes counts no job twice and misses none."""
    batches = Batches(rig.redis)
    await enqueue(rig, "night", 40)
    async with rig.working(), asyncio.timeout(60):
        while not (counts := await batches.counts("night")).drained:
            assert counts.accepted == 40
            assert counts.queued >= 0
    assert counts.succeeded == 40


async def test_done_needs_a_known_total_and_nothing_on_its_way() -> None:
    """A drained batch is not done while its source is open, or when jobs were lost."""
    assert not Counts(succeeded=5).done
    assert not Counts(total=6, succeeded=5).done
    assert not Counts(total=5, succeeded=5, queued=1).done
    assert Counts(total=5, succeeded=3, failed=1, cancelled=1).done


async def test_the_state_of_a_batch() -> None:
    """A flag comes before everything else. A drained batch without a feeder is done."""
    assert Counts(flag="paused", feeding=True).state == "paused"
    assert Counts(flag="cancelled").state == "cancelled"
    assert Counts(feeding=True, queued=1).state == "feeding"
    assert Counts(total=2, queued=1, succeeded=1).state == "running"
    assert Counts(succeeded=2).state == "done"
    assert Counts(succeeded=2, fed=True).state == "running"  # its source was not read to the end


async def test_opening_a_batch_after_redis_was_wiped_counts_its_rows(rig: Rig) -> None:
    """The store has what was paid, so a new Redis must not count from zero."""
    batches = Batches(rig.redis)
    await enqueue(rig, "night", 4)
    await rig.work_off()
    before = await batches.counts("night")
    await rig.redis.flushall()
    await open_batch(batches, "night", rig.store)
    after = await batches.counts("night")
    assert after == msgspec.structs.replace(before, fed=True, created_at=after.created_at)
    assert await batches.names() == ["night"]


async def test_reconcile_leaves_a_batch_with_jobs_on_their_way_alone(rig: Rig) -> None:
    """Rows of jobs that are not finished in Redis yet would be counted twice."""
    batches = Batches(rig.redis)
    await enqueue(rig, "night", 2)
    await rig.work_off()
    await rig.producer.enqueue(hello(), batch="night", custom_id="more")
    await rig.redis.execute_command("HSET", keys.BATCH + "night", "succeeded", 1)
    assert not await reconcile(batches, "night", rig.store)
    assert (await batches.counts("night")).succeeded == 1
    await rig.work_off()
    assert await reconcile(batches, "night", rig.store)
    assert (await batches.counts("night")).succeeded == 3


async def test_total_takes_in_jobs_from_elsewhere(rig: Rig) -> None:
    """Another producer may add to a batch: the total is never less than the accepted jobs."""
    batches = Batches(rig.redis)
    await open_batch(batches, "night", None)
    await enqueue(rig, "night", 3)
    await batches.set_total("night", await batches.total("night", 2))
    assert (await batches.counts("night")).total == 3
    await open_batch(batches, "night", None)
    assert (await batches.counts("night")).total is None


async def test_a_stopped_account_has_its_reason(redis_url: str, tmp_path: Path) -> None:
    """A refused credential stops the account, and `status` prints the reason."""
    config = SimulatorConfig(auth="another key")
    async with rigged(redis_url, tmp_path, config) as rig:
        batches = Batches(rig.redis)
        await enqueue(rig, "night", 1)
        async with rig.working() as worker, asyncio.timeout(60):
            while not (accounts := await batches.accounts()):
                pass
        assert accounts[worker.account]["state"] == "stopped"
        assert accounts[worker.account]["reason"]


async def test_names_and_values_that_are_not_utf_8_are_shown(redis: Redis) -> None:
    """Another program may write to our keys: one odd name must not end every command."""
    lane, account = b"f\xff:m", b"f\xff"
    async with redis.pipeline() as pipe:
        pipe.sadd(keys.BATCHES, b"odd\xff", "good")
        pipe.hset(keys.BATCH.encode() + b"odd\xff", mapping={"failed": "7", "in_flight": "x"})  # type: ignore[arg-type]
        pipe.hset(keys.BATCH + "good", mapping={"failed": "2"})
        pipe.sadd(keys.LANES, lane, "g:m", "")
        pipe.hset(keys.LANE.encode() + lane, "hot", b'{"refused":3,"costs":{"\xff":1}}')  # type: ignore[arg-type]
        pipe.hset(keys.LANE + "g:m", "hot", b"\xff")  # type: ignore[arg-type]
        pipe.hset(keys.ACCOUNT.encode() + account, mapping={"state": "stopped", "reason": b"\xfe"})  # type: ignore[arg-type]
        await pipe.execute()
    batches = Batches(redis)
    shown = "odd\N{REPLACEMENT CHARACTER}"
    assert await batches.names() == ["good", shown]
    assert {name: c.failed for name, c in (await batches.all()).items()} == {"good": 2, shown: 7}
    assert await batches.accounts() == {
        "f\N{REPLACEMENT CHARACTER}": {"state": "stopped", "reason": "\N{REPLACEMENT CHARACTER}"}
    }
    odd, _, good = sorted(await read_lanes(redis), key=lambda each: -each.hot.refused)
    assert (odd.account, odd.stopped, odd.hot.refused) == (
        "f\N{REPLACEMENT CHARACTER}",
        "\N{REPLACEMENT CHARACTER}",
        3,
    )
    assert (good.hot.refused, good.stopped) == (0, None)


async def test_a_jobs_odd_record_is_shown(redis: Redis) -> None:
    """`nightmill show` prints what can be read of it."""
    attempts = (b'{"n":1,"started_at":100000000000000000,"outcome":"lost"}', b"\xff")
    async with redis.pipeline() as pipe:
        pipe.set(keys.PAYLOAD + "j", b"{}")
        pipe.hset(keys.RECORD + "j", mapping={"state": b"in_flight", "worker": b"w\xff"})
        pipe.rpush(keys.ATTEMPTS + "j", *attempts)
        await pipe.execute()
    lines = await waiting_history(redis, "j")
    assert lines is not None
    assert "w\N{REPLACEMENT CHARACTER}" in lines[1]
    assert lines[2].startswith("  1. ? lost")
    assert "cannot be read" in lines[3]


async def test_a_count_that_is_not_a_number_is_counted_from_zero(rig: Rig) -> None:
    """A requeue and a cancellation change counts; a bad one must not stop them half way."""
    await enqueue(rig, "night", 3)
    for field in ("cancelled", "failed"):
        await rig.redis.execute_command("HSET", keys.BATCH + "night", field, "many")
    script = rig.redis.register_script(wire.script("enqueue"))
    queue, payload = keys.batch_queue("night", "model-0"), wire.encode_job(JOB, 0)
    assert await script(args=[queue, "night", 0, 1, "failed", "", "night:again", payload]) == b"1"
    batches = Batches(rig.redis)
    await batches.cancel("night")
    await Cancellation(rig.redis, rig.store, rig.settings).run("night")
    counts = await batches.counts("night")
    assert (counts.cancelled, counts.failed, counts.queued) == (4, -1, 0)
