"""Any iterable is a source: `feed` and `enqueue_many`, with and without a template."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from nightmill import Fed, InvalidParamsError, Producer, SyncProducer, Template, load_settings
from nightmill.queue import wire
from nightmill.queue.batches import Batches
from tests.rig import Rig, rigged, until

if TYPE_CHECKING:
    from nightmill import Settings

SAY = Template(prompt="Say {{ text }}", id="id", set={"max_tokens": 5})


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    """Return the settings of a producer in this test."""
    return load_settings(redis_url=redis_url, data_dir=tmp_path)


def rows(number: int) -> Iterator[dict[str, object]]:
    """Yield rows whose ids are numbers."""
    for i in range(number):
        yield {"id": i, "text": f"word {i}"}


async def asynchronous(number: int) -> AsyncIterator[dict[str, object]]:
    """Yield the same rows asynchronously."""
    for row in rows(number):
        yield row


async def payload(producer: Producer, job_id: str) -> dict[str, object]:
    """Return the request of a queued job."""
    queued = await producer._redis.get(f"arq:job:{job_id}")
    assert queued is not None
    job, _ = wire.decode_job(queued)
    found: dict[str, object] = wire.load(bytes(job.params))
    return found


async def test_rows_are_fed_through_a_template(settings: Settings) -> None:
    """Rows may come from a generator or an asynchronous one. Rows fed again are skipped."""
    async with Producer(settings=settings) as producer:
        assert await producer.feed(rows(1200), batch="night", template=SAY) == Fed(new=1200)
        again = await producer.feed(asynchronous(1300), batch="night", template=SAY)
        assert again == Fed(new=100, queued_already=1200)
        asked = await payload(producer, "night:7")
        assert asked["messages"] == [{"role": "user", "content": "Say word 7"}]
        assert asked["max_tokens"] == 5
        assert (await Batches(producer._redis).counts("night")).total == 1300


async def test_requests_need_no_template(settings: Settings) -> None:
    """Rows may have the same shapes as in a JSON Lines file."""
    message: dict[str, object] = {"messages": [{"role": "user", "content": "Hi"}]}
    requests: list[dict[str, object]] = [
        {"custom_id": "a", "params": message},
        {"prompt": "Hi"},
        message,
    ]
    async with Producer(settings=settings) as producer:
        assert await producer.feed(requests, batch="night") == Fed(new=3)
        for job_id in ("night:a", "night:line-2", "night:line-3"):
            assert (await payload(producer, job_id))["messages"] == message["messages"]


async def test_the_source_waits_for_the_window(redis_url: str, tmp_path: Path) -> None:
    """Rows are read only as workers take jobs: a cursor may have ten million rows."""
    read = 0

    def counted() -> Iterator[dict[str, object]]:
        nonlocal read
        for row in rows(1000):
            read += 1
            yield row

    async with rigged(redis_url, tmp_path, window=100) as rig:
        feeding = asyncio.create_task(rig.producer.feed(counted(), batch="n", template=SAY))
        await until(lambda: _nearly_full(rig))
        assert read <= 100 + 3 * 25 + 1
        async with rig.working():
            assert await feeding == Fed(new=1000)
        assert read == 1000


async def _nearly_full(rig: Rig) -> bool:
    """Return whether another chunk, a quarter of the window, does not fit."""
    return (await Batches(rig.redis).counts("n")).waiting > 75


async def test_a_bad_row_ends_the_feeding_and_closes_the_source(settings: Settings) -> None:
    """The rows before it are fed, and the error names the row's number."""
    closed = []

    def failing() -> Iterator[dict[str, object]]:
        try:
            yield {"id": 1, "text": "a"}
            yield {"id": 2, "txet": "b"}
            yield {"id": 3, "text": "c"}
        finally:
            closed.append(True)

    async with Producer(settings=settings) as producer:
        with pytest.raises(InvalidParamsError, match='line 2: prompt: no column "text"'):
            await producer.feed(failing(), batch="night", template=SAY)
        assert closed == [True]
        assert await payload(producer, "night:1")
        twice = [{"id": 1, "text": "a"}, {"id": 1, "text": "b"}]
        with pytest.raises(InvalidParamsError, match="'1' was used before"):
            await producer.feed(twice, batch="other", template=SAY)
        with pytest.raises(InvalidParamsError, match=r"line 1: given 7 .*a mapping"):
            await producer.feed([7], batch="other")  # type: ignore[list-item]
        with pytest.raises(InvalidParamsError, match="cannot name a batch"):
            await producer.feed([], batch="a:b")


async def test_enqueue_many_takes_rows_too(settings: Settings) -> None:
    """It returns a receipt for each row, in a batch or without one."""
    async with Producer(settings=settings) as producer:
        receipts = await producer.enqueue_many(rows(3), batch="night", template=SAY)
        assert [receipt.job_id for receipt in receipts] == ["night:0", "night:1", "night:2"]
        (single,) = await producer.enqueue_many([{"text": "x"}], template=Template(prompt="x"))
        assert (await payload(producer, single.job_id))["messages"]
        with pytest.raises(InvalidParamsError, match="line 2: prompt"):
            await producer.enqueue_many([{"id": 1, "text": "a"}, {"id": 2}], template=SAY)


async def test_a_dataframe_is_a_source(settings: Settings) -> None:
    """Its rows are read; iterating a DataFrame itself gives the names of its columns."""
    frame = pd.DataFrame({"id": [1.0, 2.0], "text": ["a", "b"]})
    for number, table in enumerate((frame, pl.from_pandas(frame), pa.Table.from_pandas(frame))):
        async with Producer(settings=settings) as producer:
            assert await producer.feed(table, batch=f"b{number}", template=SAY) == Fed(new=2)
            assert await payload(producer, f"b{number}:1")
            receipts = await producer.enqueue_many(table, batch=f"b{number}", template=SAY)
            assert not any(receipt.new for receipt in receipts)
    twins = pd.DataFrame([["a", "b"]], columns=["text", "text"])
    async with Producer(settings=settings) as producer:
        with pytest.raises(InvalidParamsError, match='two columns have the name "text"'):
            await producer.feed(twins, batch="t", template=SAY)


async def test_a_prompt_is_a_request(settings: Settings) -> None:
    """{"prompt": ...} worked on the command line and in `feed`, and in no other method."""
    message = [{"role": "user", "content": "Hi"}]
    async with Producer(settings=settings) as producer:
        one = await producer.enqueue({"prompt": "Hi", "max_tokens": 5})
        asked = await payload(producer, one.job_id)
        assert (asked["messages"], asked["max_tokens"], "prompt" in asked) == (message, 5, False)
        as_json = await producer.enqueue(b'{"prompt": "Hi"}')
        assert (await payload(producer, as_json.job_id))["messages"] == message
        named = await producer.enqueue({"custom_id": "a", "prompt": "Hi"}, batch="night")
        assert named.job_id == "night:a"
        rows: list[dict[str, object]] = [
            {"custom_id": "b", "prompt": "Hi"},
            {"custom_id": "c", "params": {"messages": message}},
        ]
        many = await producer.enqueue_many(rows, batch="night")
        assert [receipt.job_id for receipt in many] == ["night:b", "night:c"]
        for receipt in many:
            assert (await payload(producer, receipt.job_id))["messages"] == message
        with pytest.raises(InvalidParamsError, match=r"prompt: given .. \(string"):
            await producer.enqueue({"prompt": ""})
        with pytest.raises(InvalidParamsError, match=r"max_token: unknown .* did you mean max_tok"):
            await producer.enqueue({"prompt": "Hi", "max_token": 5})


async def test_a_source_that_blocks_does_not_block_the_loop(settings: Settings) -> None:
    """A service can answer requests while a slow query is read."""
    loop = asyncio.get_running_loop()

    def slow() -> Iterator[dict[str, object]]:
        yield {"id": 1, "text": "a"}
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(10)  # the loop must turn
        yield {"id": 2, "text": "b"}

    async with Producer(settings=settings) as producer:
        assert len(await producer.enqueue_many(slow(), batch="a", template=SAY)) == 2
        assert await producer.feed(slow(), batch="b", template=SAY) == Fed(new=2)


def test_a_database_cursor_is_a_source(settings: Settings) -> None:
    """A SQLite cursor works only in the thread that made it, so it is read there."""
    with closing(sqlite3.connect(":memory:")) as db, SyncProducer(settings=settings) as producer:
        db.row_factory = sqlite3.Row
        db.execute("CREATE TABLE texts (id INTEGER, text TEXT)")
        db.executemany("INSERT INTO texts VALUES (?, ?)", [(i, f"word {i}") for i in range(1200)])
        query = "SELECT * FROM texts"
        assert producer.feed(db.execute(query), batch="night", template=SAY) == Fed(new=1200)
        receipts = producer.enqueue_many(map(dict, db.execute(query)), batch="night", template=SAY)
        assert not any(receipt.new for receipt in receipts)
        with pytest.raises(InvalidParamsError, match="line 1: prompt"):
            producer.feed([{"id": 1}], batch="other", template=SAY)


def test_feeding_without_a_redis_says_so(tmp_path: Path) -> None:
    """The error comes at once: feeding does not wait for the thread that reads."""
    settings = load_settings(redis_url="redis://127.0.0.1:9", data_dir=tmp_path)
    with pytest.raises(Exception, match="Redis does not answer"):
        SyncProducer(settings=settings).feed(rows(3), batch="night", template=SAY)
