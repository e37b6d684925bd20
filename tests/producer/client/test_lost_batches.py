"""A batch that Redis has lost, in part or as a whole, is no success: wait, status and verify."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from nightmill import BatchStoppedError
from nightmill.client.corrected import Corrections
from nightmill.enqueue import known
from nightmill.enqueue.changes import Changes
from nightmill.enqueue.feeder import Feeder
from nightmill.errors import BatchNotFoundError, StoreMissingError, StoreUnavailableError
from nightmill.maintenance.verify import verify
from nightmill.queue import keys
from nightmill.queue.batches import Batches
from nightmill.records.counts import Counts
from nightmill.reports.view import look
from nightmill.store import StoredBatch
from tests.producer.enqueue.test_feeder import lines
from tests.producer.store.samples import numbered
from tests.rig import Rig

if TYPE_CHECKING:
    from tests.integration.shell import Done, Shell

FED, STORED = 8, 5


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait long: nothing changes any more."""
    monkeypatch.setattr("nightmill.client.batch.STANDSTILL_S", 0.1)
    monkeypatch.setattr(known, "SIGN_OF_LIFE_S", 0.0)


async def lose(rig: Rig, how: str) -> None:
    """Feed FED jobs, run STORED of them, and let Redis lose the others, in one of several ways."""
    async with Feeder("night", rig.producer, Batches(rig.redis), rig.store) as feeder:
        await feeder.feed(lines(FED))
    queue = keys.batch_queue("night", "model")
    left = [keys.job_id("night", f"c{n}") for n in range(STORED + 1, FED + 1)]
    await rig.redis.zrem(queue, *left)
    await rig.work_off()
    if how == "jobs":  # the last second of the file
        return
    if how == "jobs and total":  # a replica that lagged was promoted
        await rig.redis.hdel(keys.BATCH + "night", "total")  # type: ignore[misc]
    elif how == "counts":  # a worker has put a job back since
        await rig.redis.delete(keys.BATCH + "night")
    else:  # a restart without its file
        await rig.redis.flushall()


HOW = ["jobs", "jobs and total", "counts", "everything"]


@pytest.mark.parametrize("how", HOW)
async def test_a_wait_for_lost_jobs_ends_with_an_error(rig: Rig, how: str) -> None:
    """It returned 1,000 of 2,000 as a success: the total was lost with the jobs."""
    await lose(rig, how)
    with pytest.raises(BatchStoppedError, match="has 3 jobs neither queued nor stored: feed its"):
        await rig.producer.batch("night").wait(20)


@pytest.mark.parametrize("how", HOW)
async def test_the_commands_say_what_is_missing(rig: Rig, shell: Shell, how: str) -> None:
    """`wait` and `verify` without a source were content, and `status` said `done`."""
    await lose(rig, how)

    async def run(*args: str) -> Done:
        return await asyncio.to_thread(shell, *args)

    done = await run("wait", "night")
    assert (done.code, done.out) == (3, "night: 5 succeeded (5 cut at max_tokens), 3 left\n")
    assert "neither queued nor stored" in done.err
    status = json.loads((await run("status", "night", "--json")).out)
    assert (status["state"], status["total"], status["succeeded"]) == ("running", FED, STORED)
    assert status["reason"] == "has 3 jobs neither queued nor stored: feed its source again"
    assert status["reason"] in (await run("status")).out
    verified = await run("verify", "night")
    assert verified.code == 1
    assert "5 rows of 8 jobs" in verified.out
    results = await run("results", "night", "-o", "out.jsonl")
    assert results.err == '5 results of batch "night"; 3 of its 8 jobs have no row\n'


async def test_a_batch_that_was_not_fed_to_its_end_is_no_success(rig: Rig, shell: Shell) -> None:
    """Its feeder was killed: the jobs that it had fed were all done, and `wait` returned 0."""
    batches = Batches(rig.redis)
    async with Feeder("night", rig.producer, batches, rig.store) as feeder:
        await feeder._send(feeder._planner.plan(list(lines(3)), {}, {}, Changes()))
    await rig.work_off()
    assert (await batches.counts("night")).state == "running"
    with pytest.raises(BatchStoppedError, match="was not fed to the end of its source"):
        await rig.producer.batch("night").wait(20)
    assert (await verify("night", rig.store, batches)).problems == (
        "its source was not fed to the end",
    )
    ids = [f"c{n}" for n in (1, 2, 3)]
    assert (await verify("night", rig.store, batches, ids)).holds, "the source itself says it all"
    assert (await asyncio.to_thread(shell, "wait", "night")).code == 3


async def test_jobs_of_other_producers_have_no_total(rig: Rig) -> None:
    """Without a feeder a batch is done when none of its jobs is in Redis, as before."""
    await rig.producer.enqueue_many([{"messages": [{"role": "user", "content": "hi"}]}], batch="b")
    await rig.work_off()
    assert (await rig.producer.batch("b").wait(20)).succeeded == 1


async def test_a_wait_remembers_what_redis_forgets_meanwhile(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program without the store notices a loss during its wait, too."""
    monkeypatch.setattr("nightmill.client.stored.find_spec", lambda _: None)
    batches = Batches(rig.redis)
    async with Feeder("night", rig.producer, batches, None) as feeder:
        await feeder.feed(lines(FED))
    waiting = asyncio.create_task(rig.producer.batch("night").wait(20))
    assert not (await asyncio.wait([waiting], timeout=0.5))[0]
    await rig.redis.flushall()
    await rig.redis.sadd(keys.BATCHES, "night")  # type: ignore[misc] # a worker put a job back
    with pytest.raises(BatchStoppedError, match="has 8 jobs neither queued nor stored"):
        await waiting


async def test_rows_count_and_not_what_redis_says_of_them(rig: Rig) -> None:
    """Two stores: Redis had counted all, and the store here had half of the rows."""
    await lose(rig, "jobs")
    await rig.redis.hset(keys.BATCH + "night", "succeeded", str(FED))  # type: ignore[misc]
    with pytest.raises(BatchStoppedError, match="3 jobs neither queued nor stored"):
        await rig.producer.batch("night").wait(20)


async def test_rows_of_other_jobs_are_noticed_without_the_source(rig: Rig) -> None:
    """As many rows as jobs, but not theirs."""
    batches = Batches(rig.redis)
    async with Feeder("night", rig.producer, batches, rig.store) as feeder:
        await feeder.feed(lines(2))
    await rig.work_off()
    assert (await verify("night", rig.store, batches)).holds
    await rig.store.prune("night")
    await rig.store.record([numbered(8), numbered(9)])
    assert (await verify("night", rig.store, batches)).problems == (
        "2 rows, but not of the 2 jobs that were fed",
    )


async def test_a_repair_with_a_shorter_source_makes_the_total_smaller(
    rig: Rig, shell: Shell
) -> None:
    """A person says that the source is all that the batch should have."""
    source = shell.write(4, "night.jsonl")
    assert shell("enqueue", source).code == 0
    await rig.redis.flushall()
    shell.write(2, "night.jsonl")
    assert shell("enqueue", source).code == 0
    await rig.work_off()
    assert shell("verify", "night").code == 1
    assert shell("verify", "night", "--source", source, "--repair").code == 0
    assert shell("verify", "night").code == shell("wait", "night").code == 0


async def test_a_batch_that_was_cancelled_before_redis_lost_it_is_shown_as_that(rig: Rig) -> None:
    """Its queued jobs have `cancelled` rows: nothing of it is missing."""
    await rig.store.record([numbered(1)])
    await rig.store.note("night", StoredBatch(state="cancelled", total=1))
    batches = Batches(rig.redis)
    view = await look(batches, None, Corrections(batches, rig.settings))
    assert view.state("night") == "cancelled"
    assert view.done


async def test_without_an_answer_of_the_store_status_shows_what_redis_knows(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is needed most then; `wait` goes on waiting, since it must not be wrong."""
    await lose(rig, "jobs")
    batches = Batches(rig.redis)
    counts = await batches.counts("night")

    async def away(*_: object) -> None:
        raise StoreUnavailableError

    monkeypatch.setattr("nightmill.store.ResultStore.known", away)
    assert await Corrections(batches, rig.settings, lenient=True).one("night") == counts
    with pytest.raises(StoreUnavailableError):
        await Corrections(batches, rig.settings).one("night")

    async def missing(*_: object) -> None:
        raise StoreMissingError

    monkeypatch.setattr("nightmill.store.ResultStore.connect", missing)
    assert await Corrections(batches, rig.settings).one("night") == counts


async def test_the_store_is_asked_once_for_the_same_counts(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status --watch` looks every second, and a store may have a million rows."""
    await lose(rig, "jobs")
    batches = Batches(rig.redis)
    corrections = Corrections(batches, rig.settings)
    first = await corrections.all()
    monkeypatch.delattr("nightmill.store.ResultStore.connect")
    assert await corrections.all() == first
    assert first["night"] == msgspec.structs.replace(await batches.counts("night"), fed=True)


def test_what_a_gap_is() -> None:
    """Jobs that are in Redis, or that a feeder may still bring, are not missing."""
    assert Counts(total=3, succeeded=1).gap
    assert not Counts(total=3, succeeded=1, feeding=True).gap
    assert not Counts(total=3, succeeded=1, queued=1).gap
    assert not Counts(succeeded=1).gap
    assert Counts(succeeded=1, fed=True).gap
    assert not Counts(succeeded=1, fed=True, flag="cancelled").gap


async def test_a_name_that_was_asked_for_is_no_batch(rig: Rig) -> None:
    """Opening the page of a batch that is not there added it to the list of all users."""
    corrections = Corrections(Batches(rig.redis), rig.settings, store=rig.store)
    with pytest.raises(BatchNotFoundError):
        await corrections.one("made up")
    assert await corrections.all() == {}


async def test_a_batch_that_was_pruned_is_listed_no_more(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway, which runs for months, listed it until it ended."""
    corrections = Corrections(Batches(rig.redis), rig.settings, store=rig.store)
    await lose(rig, "everything")
    assert set(await corrections.all()) == {"night"}
    await rig.producer.enqueue({"messages": [{"role": "user", "content": "hi"}]}, batch="b")
    await rig.store.forget("night")
    assert set(await corrections.all()) == {"b", "night"}, "the store is not asked at every look"
    monkeypatch.setattr("nightmill.client.corrected.LISTED_S", 0.0)
    assert set(await corrections.all()) == {"b"}
