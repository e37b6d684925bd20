"""`verify` compares the store, Redis and the ids of the source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nightmill.maintenance.verify import verify
from nightmill.queue.batches import Batches
from nightmill.reports.job_history import waiting_history
from tests.rig import hello, rigged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.rig import Rig

QUEUE = "nightmill:queue:night:claude-opus-4-6"
IDS = [f"{n}" for n in range(10)]


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig without workers, with a batch enqueued."""
    async with rigged(redis_url, tmp_path) as started:
        items = ({"custom_id": name, **hello(name)} for name in IDS)
        await started.producer.enqueue_many(items, batch="night")
        yield started


async def test_a_finished_batch_holds(rig: Rig) -> None:
    """Every id has its row, and all counts agree."""
    await rig.work_off()
    verdict = await verify("night", rig.store, Batches(rig.redis), IDS)
    assert verdict.problems == ()
    assert (verdict.rows, verdict.waiting, verdict.missing) == (10, 0, 0)


async def test_a_batch_that_still_runs_holds(rig: Rig) -> None:
    """Waiting jobs are not missing."""
    verdict = await verify("night", rig.store, Batches(rig.redis), IDS)
    assert verdict.holds
    assert (verdict.rows, verdict.waiting) == (0, 10)


async def test_an_id_with_neither_row_nor_job_is_missing(rig: Rig) -> None:
    """A Redis that lost its last second leaves such ids behind."""
    await rig.work_off()
    verdict = await verify("night", rig.store, Batches(rig.redis), [*IDS, "lost"])
    assert (verdict.missing, verdict.examples) == (1, ("lost",))
    assert not verdict.holds


async def test_a_row_that_was_deleted_is_noticed(rig: Rig) -> None:
    """Redis still counts the job."""
    await rig.work_off()
    await rig.store.prune("night")
    verdict = await verify("night", rig.store, Batches(rig.redis))
    assert verdict.problems == ("10 succeeded by Redis's count, 0 rows",)


async def test_a_queued_job_without_its_payload_is_orphaned(rig: Rig) -> None:
    """A person deleted the key, or Redis evicted it."""
    await rig.redis.delete("arq:job:night:3")
    verdict = await verify("night", rig.store, Batches(rig.redis))
    assert verdict.orphaned == 1
    assert not verdict.holds


async def test_a_waiting_job_has_a_history_and_an_unknown_one_has_none(rig: Rig) -> None:
    """`show` works before there is a row."""
    found = await waiting_history(rig.redis, "night:3")
    assert found is not None
    assert found[0] == "night:3: queued"
    assert await waiting_history(rig.redis, "night:no") is None
