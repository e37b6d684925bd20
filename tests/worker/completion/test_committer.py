"""A committer whose store goes away: answers are held, spooled and marked, then stored once."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from nightmill_worker.events import (
    FinishRefused,
    ModelUnpriced,
    SpoolDamaged,
    SpoolFailed,
    StoreAway,
    StoreBack,
)
from nightmill_worker.queue.scripts import ANSWERED_MS
from tests.postgres import postgres
from tests.rig import hello, rigged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from nightmill.store import ResultStore
    from tests.postgres import Postgres
    from tests.rig import Rig

JOBS = 20


@pytest.fixture
def server() -> Iterator[Postgres]:
    """Run a PostgreSQL that may be stopped."""
    with postgres() as running:
        yield running


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path, server: Postgres) -> AsyncIterator[Rig]:
    """Start everything but workers, with JOBS jobs enqueued."""
    async with rigged(redis_url, tmp_path, store_url=server.url) as started:
        items = ({"custom_id": f"{n}", **hello(str(n))} for n in range(JOBS))
        await started.producer.enqueue_many(items, batch="night")
        yield started


async def until(true: Callable[[], object]) -> None:
    """Wait until `true` returns a true value."""
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - what another program does sets no event here
            await asyncio.sleep(0.01)


def spooled(rig: Rig) -> int:
    """Return how many answers are on the disk."""
    folder = rig.settings.data_dir / "spool"
    return sum(file.read_bytes().count(b"\n") for file in folder.glob("*.jsonl"))


async def leases(rig: Rig) -> list[int]:
    """Return how long each job in flight is held, ms."""
    held = [f"arq:in-progress:night:{n}" for n in range(JOBS)]
    return [left for key in held if (left := await rig.redis.pttl(key)) > 0]


async def test_answers_outlive_the_worker_that_held_them(rig: Rig, server: Postgres) -> None:
    """A restart during an outage repeats no call and loses no answer."""
    async with rig.working():
        await until(lambda: rig.calls() > 0)
        server.stop()
        await until(lambda: rig.events_of(StoreAway))
    called = rig.calls()
    held = await leases(rig)
    assert len(held) == spooled(rig) > 0
    assert min(held) > ANSWERED_MS - 60_000
    server.start()
    await rig.work_off()
    assert sum((await rig.store.counts("night")).values()) == JOBS
    assert rig.calls() == JOBS >= called
    assert spooled(rig) == 0
    assert rig.events_of(FinishRefused) == []
    assert await rig.redis.zcard("nightmill:queue:night:claude-opus-4-6") == 0


async def test_a_store_that_comes_back_gets_everything_and_claims_go_on(
    rig: Rig, server: Postgres
) -> None:
    """An outage ends without an operator."""
    async with rig.working():
        await until(lambda: rig.calls() > 0)
        server.stop()
        await until(lambda: rig.events_of(StoreAway) and spooled(rig))
        server.start()
        await until(lambda: rig.events_of(StoreBack) and rig.calls() == JOBS)
        for n in range(JOBS):
            await rig.row(f"night:{n}")
    assert len(rig.events_of(StoreAway)) == len(rig.events_of(StoreBack)) == 1
    assert rig.calls() == JOBS
    assert list((rig.settings.data_dir / "spool").iterdir()) == []


async def test_a_damaged_line_costs_one_call_and_is_reported(rig: Rig, server: Postgres) -> None:
    """The other answers of the file are stored; the job of the damaged one runs again."""
    async with rig.working():
        await until(lambda: rig.calls() > 0)
        server.stop()
        await until(lambda: rig.events_of(StoreAway) and spooled(rig))
    (file,) = (rig.settings.data_dir / "spool").glob("*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"torn\n" + b"".join(lines[1:]))
    server.start()
    async with rig.working():
        await until(lambda: rig.events_of(SpoolDamaged))
    (damaged,) = rig.events_of(SpoolDamaged)
    assert damaged.lines == 1
    assert file.with_suffix(".damaged").read_bytes() == b"torn\n"
    assert sum((await rig.store.counts("night")).values()) >= len(lines) - 1


async def test_nothing_is_acknowledged_that_is_neither_stored_nor_spooled(
    rig: Rig, server: Postgres
) -> None:
    """The disk is full while the store is away: reported once, kept in memory, stored later."""
    (rig.settings.data_dir / "spool").write_text("in the way")
    async with rig.working():
        await until(lambda: rig.calls() > 0)
        server.stop()
        await until(lambda: rig.events_of(SpoolFailed))
        calls = rig.calls()
        assert await rig.redis.zcard("nightmill:queue:night:claude-opus-4-6") > 0
        assert max(await leases(rig)) < 60_000
        server.start()
        for n in range(JOBS):
            await rig.row(f"night:{n}")
    assert len(rig.events_of(SpoolFailed)) == 1
    assert calls <= rig.calls() == JOBS


async def test_a_full_disk_under_sqlite_stops_claims_until_there_is_room(
    redis_url: str, tmp_path: Path
) -> None:
    """Claims go on by themselves when there is room again."""
    async with rigged(redis_url, tmp_path) as rig:
        await limit_pages(rig.store, 10)
        items = ({"custom_id": f"{n}", **hello(str(n))} for n in range(JOBS))
        await rig.producer.enqueue_many(items, batch="night")
        async with rig.working():
            await until(lambda: rig.events_of(StoreAway) and spooled(rig))
            assert "its disk is full; free some space" in rig.events_of(StoreAway)[0].problem
            await limit_pages(rig.store, 1_000_000)
            for n in range(JOBS):
                await rig.row(f"night:{n}")
        assert rig.calls() == JOBS


async def test_a_worker_that_starts_beside_one_whose_store_is_away_claims_nothing(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would pay for answers that cannot be stored. The other worker's spool shows the outage."""
    monkeypatch.setattr("nightmill.store.sqlite.BUSY_TIMEOUT_MS", 1)
    async with rigged(redis_url, tmp_path, max_in_flight=5) as rig:
        items = ({"custom_id": f"{n}", **hello(str(n))} for n in range(JOBS))
        await rig.producer.enqueue_many(items, batch="night")
        with closing(sqlite3.connect(tmp_path / "results.db", isolation_level=None)) as lock:
            lock.execute("BEGIN EXCLUSIVE")
            async with rig.working():
                await until(lambda: rig.events_of(StoreAway) and spooled(rig))
                async with rig.working() as second:
                    await until(lambda: len(rig.events_of(StoreAway)) == 2)
                    assert len(second.registry) == 0
                    assert rig.calls() < JOBS
                    lock.execute("ROLLBACK")
                    for n in range(JOBS):
                        await rig.row(f"night:{n}")
        assert rig.calls() == JOBS


async def limit_pages(store: ResultStore, pages: int) -> None:
    """Limit the file of `store` to `pages` pages, on the connection that writes."""
    pragma = f"PRAGMA max_page_count={pages}"
    await store._database.run(lambda c: c.change(pragma), write=True)


async def test_a_row_has_its_lane_its_times_and_its_cost(rig: Rig) -> None:
    """One SELECT shows how a batch went."""
    await rig.producer.enqueue({**hello(), "model": "my-own"}, job_id="mine")
    await rig.work_off()
    row = await rig.row("night:1")
    assert row.cost is not None
    assert row.cost > 0
    assert row.lane is not None
    assert row.lane.endswith(":claude-opus-4.x")
    assert row.queue_ms is not None
    assert row.call_ms >= 20
    assert (await rig.row("mine")).cost is None
    assert rig.events_of(ModelUnpriced) == [ModelUnpriced(model="my-own")]
