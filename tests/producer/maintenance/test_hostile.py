"""Commands on batches whose rows no endpoint, producer or worker should lead to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from nightmill.enqueue.known import MOST
from nightmill.errors import StoreError
from nightmill.maintenance.cancellation import Cancellation
from nightmill.maintenance.prune import prune
from nightmill.maintenance.requeue import requeue
from nightmill.maintenance.verify import verify
from nightmill.queue import keys
from nightmill.queue.batches import Batches
from nightmill.records.bounds import MAX_RUN
from nightmill.records.state import JobState
from tests.producer.store.hostile import GOOD, LONG_ID, NIGHT
from tests.producer.store.samples import FAILED
from tests.rig import hello, rigged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nightmill.records.result import Result
    from tests.rig import Rig

ROWS = [*NIGHT, *GOOD]


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig without workers, whose batch "night" has hostile rows."""
    async with rigged(redis_url, tmp_path) as started:
        await started.store.record(ROWS)
        await Batches(started.redis).make_known("night")
        yield started


async def test_a_batch_with_hostile_rows_is_verified(rig: Rig) -> None:
    """Sums over int64 and long ids must not hide what is missing."""
    ids = [LONG_ID.removeprefix("night:"), "line-2", "line-101", "missing"]
    verdict = await verify("night", rig.store, Batches(rig.redis), ids)
    assert (verdict.rows, verdict.missing, verdict.examples) == (len(ROWS), 1, ("missing",))
    assert verdict.lost_calls == 1


async def test_a_queued_id_that_is_no_text_is_orphaned(rig: Rig) -> None:
    """Any program can write into the queue."""
    queue = keys.batch_queue("night", "m")
    await rig.redis.zadd(queue, {b"night:\xff": 1})
    await rig.redis.sadd(keys.QUEUES_OF + "night", queue)  # type: ignore[misc]
    assert (await verify("night", rig.store, Batches(rig.redis))).orphaned == 1


async def test_counts_from_hostile_rows_can_still_be_added_to(rig: Rig) -> None:
    """A count of int64 in Redis would make the next HINCRBY fail, and with it each settlement."""
    rows = [{"custom_id": "new", **hello()}]
    assert (await rig.producer.feed(rows, batch="night")).new == 1
    counts = await Batches(rig.redis).counts("night")
    assert counts.output_tokens == MOST
    await rig.redis.hincrby(keys.BATCH + "night", "output_tokens", 5)  # type: ignore[misc]


async def test_failed_jobs_with_hostile_rows_do_not_stop_a_requeue(rig: Rig) -> None:
    """Those that can run are enqueued; the others are counted with the reason."""
    requests = {
        "bytes": b"\xff\0\n",
        "no request": b"7",
        "half": b'{"messages":',
        "deep": b"[" * 5_000 + b"]" * 5_000,
        "NaN": b'{"model":"m","max_tokens":NaN,"messages":[]}',
    }
    good = msgspec.json.encode(hello())
    failed = [
        msgspec.structs.replace(
            FAILED, job_id=f"day:{name}", batch="day", custom_id=name, params=msgspec.Raw(params)
        )
        for name, params in {**requests, "good": good, "last run": good}.items()
    ]
    failed[-1] = msgspec.structs.replace(failed[-1], run=MAX_RUN)
    await rig.store.record(failed)
    done = await requeue("day", rig.store, rig.producer, Batches(rig.redis))
    assert (done.new, done.invalid, done.without_request) == (1, len(requests) + 1, 0)
    assert done.problem.startswith("NaN: max_tokens: given nan")


async def test_hostile_rows_are_pruned(rig: Rig) -> None:
    """Retention takes them like all others."""
    assert await prune("night", rig.store, Batches(rig.redis)) == len(ROWS)
    assert await rig.store.batches() == {}


async def test_hostile_jobs_of_a_cancelled_batch_get_their_rows(rig: Rig) -> None:
    """A queue name or a payload that cannot be read must not keep the batch from its end."""
    queue = keys.batch_queue("gone", "").encode() + b"\xff"
    names = [b"gone:a", b"gone:\xff", f"gone:{LONG_ID}".encode()]
    payloads = [b'{"k":{"params":{},"run":9223372036854775808},"et":1}', b"\x80pickle", b""]
    await rig.redis.zadd(queue, dict.fromkeys(names, 1))
    await rig.redis.sadd(keys.QUEUES_OF + "gone", queue)  # type: ignore[misc]
    for name, payload in zip(names, payloads, strict=True):
        await rig.redis.set(keys.PAYLOAD.encode() + name, payload)
        await rig.redis.execute_command("RPUSH", keys.ATTEMPTS.encode() + name, "no attempt")
    batches = Batches(rig.redis)
    await batches.make_known("gone")
    await batches.cancel("gone")
    assert await Cancellation(rig.redis, rig.store, rig.settings).run("gone") == len(names)
    assert (await rig.store.counts("gone"))[JobState.CANCELLED] == len(names)
    assert await rig.redis.exists(queue) == 0


async def test_a_row_that_the_store_refuses_does_not_stop_a_cancellation(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its neighbours get their rows, and it gets a reduced one."""
    await rig.producer.enqueue_many(
        [{"custom_id": f"{n}", **hello()} for n in range(5)], batch="gone"
    )
    batches = Batches(rig.redis)
    await batches.cancel("gone")
    record = rig.store.record

    async def picky(group: list[Result]) -> int:
        if any(row.job_id == "gone:3" and row.params for row in group):
            raise StoreError("the index row is too large")
        return await record(group)

    monkeypatch.setattr(rig.store, "record", picky)
    assert await Cancellation(rig.redis, rig.store, rig.settings).run("gone") == 5
    row = await rig.store.get("gone:3")
    assert row is not None
    assert row.error is not None
    assert (await rig.store.counts("gone"))[JobState.CANCELLED] == 5
