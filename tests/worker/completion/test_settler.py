"""What is decided reaches the store also while Redis is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nightmill.errors import StoreError
from nightmill.records.result import Result
from nightmill.records.state import JobState
from nightmill.store import ResultStore
from nightmill_worker.events import AnswersUnsaved, RowReduced
from tests.rig import Rig, hello, rigged, until


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return everything but a worker."""
    async with rigged(redis_url, tmp_path) as started:
        yield started


async def test_answers_are_stored_while_redis_is_away(rig: Rig) -> None:
    """An answer is paid for: it must not wait behind a settlement that cannot be sent."""
    jobs = 12
    rig.sim.configure(latency_s=0.3)
    items = ({"custom_id": f"{n}", **hello(str(n))} for n in range(jobs))
    await rig.producer.enqueue_many(items, batch="night")
    async with rig.working(grace_s=2) as worker:
        await until(lambda: rig.calls() == jobs)
        away = asyncio.Event()

        async def never(*_: object) -> None:
            away.set()
            await asyncio.Event().wait()

        for name in ("settle", "release", "finish", "renew", "claim"):
            setattr(worker._scripts, name, never)
        async with asyncio.timeout(60):
            await away.wait()
            worker.stop()
            await until(lambda: _stored(rig, jobs))
    assert rig.calls() == jobs


async def _stored(rig: Rig, jobs: int) -> bool:
    """Return whether `jobs` rows are in the store."""
    return (await rig.store.counts("night"))[JobState.SUCCEEDED] == jobs


class Picky(ResultStore):
    """A store that refuses one row, as PostgreSQL refuses a value that it cannot index."""

    refuses = "night:5"

    async def record(self, results: list[Result]) -> int:  # type: ignore[override]
        """Refuse the whole group, as a database does."""
        if any(row.job_id == self.refuses and row.attempts for row in results):
            raise StoreError("index row size 3000 exceeds btree maximum 2704")
        return await super().record(results)


async def test_a_bad_row_is_stored_reduced_and_its_neighbours_whole(rig: Rig) -> None:
    """A group that cannot be committed is split until the bad row stands alone."""
    jobs = 20
    async with Picky.open(rig.settings.store_at) as store:
        picky = Rig(rig.settings, rig.redis, store, rig.client, rig.producer, rig.sim)
        items = ({"custom_id": f"{n}", **hello(str(n))} for n in range(jobs))
        await picky.producer.enqueue_many(items, batch="night")
        await picky.work_off()
        (reduced,) = picky.events_of(RowReduced)
    assert reduced.job_id == "night:5"
    assert rig.calls() == jobs
    assert (await rig.store.counts("night"))[JobState.SUCCEEDED] == jobs
    row = await rig.row("night:5")
    assert row.message is not None
    assert "index row size" in str(row.error)


async def test_a_process_with_unsaved_answers_stays_until_it_is_stopped_again(
    rig: Rig,
) -> None:
    """The store is locked and the disk is full: exit 0 would drop paid answers unseen."""
    jobs = 5
    items = ({"custom_id": f"{n}", **hello(str(n))} for n in range(jobs))
    await rig.producer.enqueue_many(items, batch="night")
    worker = rig.worker(grace_s=0.2)
    stuck = asyncio.Event()

    async def locked(_rows: object, _on_reduced: object) -> int:
        stuck.set()
        await asyncio.Event().wait()
        return 0

    def full(_items: object) -> None:
        raise OSError(28, "No space left on device")

    worker._committer._store = Stuck(rig.store, locked)  # type: ignore[assignment]
    worker._committer._spool.append = full  # type: ignore[method-assign,assignment]
    running = asyncio.create_task(worker.main())
    async with asyncio.timeout(60):
        await stuck.wait()
        await until(lambda: rig.calls() == jobs)
        worker.stop()
        await until(lambda: rig.events_of(AnswersUnsaved))
        assert not running.done()
        worker.stop(at_once=True)
        await running
    assert worker.unsaved == jobs


class Stuck:
    """A store whose commits never return."""

    def __init__(self, store: ResultStore, record: object) -> None:
        """Take the real store for all other questions."""
        self._store = store
        self.record_all = record

    def __getattr__(self, name: str) -> object:
        """Ask the real store."""
        return getattr(self._store, name)
