"""Batch.results: a service reads the stored results of a batch, and goes on where it stopped."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from nightmill import (
    BatchNotFoundError,
    InvalidParamsError,
    JobState,
    Producer,
    Result,
    StoreMissingError,
    SyncProducer,
    load_settings,
)
from nightmill.errors import StoreMismatchError
from nightmill.store.statements import PAGE_ROWS
from tests.rig import Rig, hello

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 2 * PAGE_ROWS + 1
NAMES = [f"c{n}" for n in range(1, COUNT + 1)]


@pytest.fixture
async def stored(rig: Rig) -> Rig:
    """Return a rig with the results of a batch in it; the third of every ten failed."""
    rows = [
        Result(
            job_id=f"night:{name}",
            batch="night",
            custom_id=name,
            seq=seq,
            status=JobState.FAILED if seq % 10 == 3 else JobState.SUCCEEDED,
            finished_at=COUNT - seq,
        )
        for seq, name in enumerate(NAMES, 1)
    ]
    await rig.store.record(rows)
    return rig


async def test_the_results_come_in_the_order_of_the_source(stored: Rig) -> None:
    """A service had to open the store itself, and to know where it is."""
    batch = stored.producer.batch("night")
    assert [row.custom_id async for row in batch.results()] == NAMES
    failed = [row.custom_id async for row in batch.results(statuses=[JobState.FAILED])]
    assert failed == NAMES[2::10]
    assert failed == [row.custom_id async for row in batch.results(statuses=["failed"])]


async def test_reading_goes_on_behind_a_cursor(stored: Rig) -> None:
    """A service that died while it read must not handle all results again."""
    batch, names, cursor = stored.producer.batch("night"), [], ""
    async with aclosing(batch.results()) as results:
        async for row in results:
            names.append(row.custom_id)
            cursor = row.cursor
            if len(names) == PAGE_ROWS + 7:
                break
    await stored.store.prune("night", before_ms=1)  # the last row; a cursor needs no row
    assert names + [row.custom_id async for row in batch.results(after=cursor)] == NAMES[:-1]
    assert [row async for row in batch.results(after=f"{COUNT}:z")] == []
    with pytest.raises(InvalidParamsError, match="after: 'c7' is no place in a batch: give the"):
        await anext(batch.results(after="c7"))


async def test_few_results_are_in_memory_at_once(stored: Rig) -> None:
    """A batch may be larger than the memory of a service."""
    async with aclosing(stored.producer.batch("night").pages()) as pages:
        assert [len(page) async for page in pages] == [PAGE_ROWS, PAGE_ROWS, 1]


async def test_the_plain_twin_reads_the_same(stored: Rig) -> None:
    """Most services have no event loop."""

    def read() -> None:
        with SyncProducer(settings=stored.settings) as producer:
            batch = producer.batch("night")
            assert [row.custom_id for row in batch.results()] == NAMES
            some = batch.results(statuses=[JobState.FAILED])
            first = next(some)
            some.close()
            rest = batch.results(after=first.cursor, statuses=[JobState.FAILED])
            assert [row.custom_id for row in rest] == NAMES[12::10]
            with pytest.raises(BatchNotFoundError, match="nihgt"):
                next(producer.batch("nihgt").results())

    await asyncio.to_thread(read)


async def test_a_batch_that_is_unknown_or_has_no_results_yet(rig: Rig) -> None:
    """A misspelt name must not look like a batch without results."""
    with pytest.raises(BatchNotFoundError, match="nihgt"):
        await anext(rig.producer.batch("nihgt").results())
    await rig.producer.enqueue(hello(), batch="night", custom_id="a")
    assert [row async for row in rig.producer.batch("night").results()] == []


async def test_results_that_cannot_be_read_here_are_no_empty_batch(
    rig: Rig, tmp_path: Path
) -> None:
    """The workers' store may be on another machine: an empty answer would hide all results."""
    await rig.producer.enqueue(hello(), batch="night", custom_id="a")
    await rig.work_off()
    await rig.redis.hset("nightmill:store", mapping={"id": "1" * 32, "where": "elsewhere.db"})  # type: ignore[misc]
    for folder, error in (("none", StoreMissingError), ("data", StoreMismatchError)):
        here = load_settings(
            redis_url=rig.settings.redis_url,
            data_dir=rig.settings.data_dir if folder == "data" else tmp_path / "none",
        )
        async with Producer(settings=here) as producer:
            with pytest.raises(error, match=r"elsewhere\.db.*NIGHTMILL_STORE_URL"):
                await anext(producer.batch("night").results())
