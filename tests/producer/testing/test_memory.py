"""A service's tests use a Producer in memory: no Redis, no worker, no endpoint."""

from __future__ import annotations

import asyncio
import inspect
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

import pytest
from pydantic import BaseModel, ValidationError, field_validator

from nightmill import (
    Batch,
    BatchEndedError,
    BatchNotFoundError,
    BatchStoppedError,
    ErrorInfo,
    InvalidParamsError,
    JobNotFoundError,
    JobState,
    Producer,
    ResultTimeoutError,
    SchemaError,
    SyncProducer,
    Taken,
)
from nightmill.testing import MemoryBatch, MemoryProducer, SyncMemoryProducer
from tests.rig import hello

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def rows() -> AsyncIterator[dict[str, object]]:
    """Yield three rows of a source."""
    for name in "abc":
        yield {"custom_id": name, "prompt": f"say {name}"}


async def test_a_request_is_checked_and_answered_at_once() -> None:
    """A service had to run Redis, a worker and an endpoint to test one function."""
    async with MemoryProducer() as producer:
        receipt = await producer.enqueue(hello("hi"), expires=timedelta(hours=1), job_id="j")
        assert receipt.new
        result = await producer.result("j", wait=60)
        assert (result.status, result.text) == (JobState.SUCCEEDED, "hi")
        again = await producer.enqueue(hello("hi"), job_id="j")
        assert again.taken is Taken.ALREADY_FINISHED
        with pytest.raises(InvalidParamsError, match="max_tokens"):
            await producer.enqueue({**hello(), "max_tokens": -1})
        with pytest.raises(JobNotFoundError, match="no job x"):
            await producer.result("x")
    assert [request["messages"][0]["content"] for request in producer.requests] == ["hi"]


async def test_the_test_says_how_jobs_end() -> None:
    """A service must be tested with failures, odd answers and answers that are not there yet."""
    producer = MemoryProducer(lambda request: replies[request["messages"][0]["content"]])
    replies: dict[str, Any] = {
        "text": '{"a": 1}',
        "fields": {"stop_reason": "max_tokens", "content": []},
        "fails": ErrorInfo(type="invalid_request_error", message="no"),
        "waits": None,
    }
    for name in replies:
        await producer.enqueue(hello(name), job_id=name)
    found = {name: await producer.result(name) for name in ("text", "fields", "fails")}
    assert found["text"].message is not None
    assert found["text"].message.json() == {"a": 1}
    assert found["fields"].stop_reason == "max_tokens"
    assert found["fails"].error == replies["fails"]
    assert found["fails"].status is JobState.FAILED
    with pytest.raises(ResultTimeoutError, match="still queued"):
        await producer.result("waits")
    replies["waits"] = "now"
    assert (await producer.result("waits")).text == "now"


async def test_a_batch_in_memory_is_fed_waited_for_and_read() -> None:
    """The calls of a service that works on whole batches."""
    producer = MemoryProducer("ok")
    fed = await producer.feed(rows(), batch="night")
    assert (fed.new, fed.total) == (3, 3)
    assert (await producer.feed(rows(), batch="night")).stored_already == 3
    batch = producer.batch("night")
    counts = await batch.wait(timeout=5)
    assert (counts.succeeded, counts.total, counts.cost, counts.state) == (3, 3, 0.0, "done")
    results = [row async for row in batch.results()]
    assert [row.custom_id for row in results] == ["a", "b", "c"]
    after = [row.custom_id async for row in batch.results(after=results[0].cursor)]
    assert after == ["b", "c"]
    await batch.on_complete("https://example.com/hook")
    assert producer.batch("night").webhooks == ["https://example.com/hook"]


async def test_a_batch_in_memory_is_paused_and_cancelled() -> None:
    """As a person may do it while the service runs."""
    producer = MemoryProducer()
    batch = producer.batch("night")
    with pytest.raises(BatchNotFoundError, match="night"):
        await batch.pause()
    await producer.enqueue_many([{"custom_id": "a", **hello()}], batch="night")
    await batch.pause("lunch")
    await producer.enqueue_many([{"custom_id": "b", **hello()}], batch="night")
    with pytest.raises(BatchStoppedError, match="is paused: lunch"):
        await batch.wait()
    await batch.resume()
    assert (await batch.wait()).succeeded == 2
    await batch.pause()
    await producer.enqueue_many([{"custom_id": "c", **hello()}], batch="night")
    await batch.cancel()
    counts = await batch.counts()
    assert (counts.succeeded, counts.cancelled, counts.state) == (2, 1, "cancelled")
    with pytest.raises(BatchEndedError):
        await producer.enqueue_many([{"custom_id": "d", **hello()}], batch="night")


def test_the_plain_twin_works_without_a_loop_and_within_one() -> None:
    """Services with plain calls are tested the same way."""

    def use() -> None:
        with SyncMemoryProducer("ok") as producer:
            assert producer.enqueue(hello(), job_id="j").new
            assert producer.result("j").text == "ok"
            fed = producer.feed([{"custom_id": "a", "prompt": "x"}], batch="night")
            assert fed.new == 1
            batch = producer.batch("night")
            assert batch.wait().succeeded == 1
            assert [row.custom_id for row in batch.results()] == ["a"]
            assert len(producer.memory.requests) == 2

    async def within() -> None:
        use()

    use()
    asyncio.run(within())


@pytest.mark.parametrize(
    ("memory", "real"),
    [(MemoryProducer, Producer), (MemoryBatch, Batch), (SyncMemoryProducer, SyncProducer)],
)
def test_no_method_of_the_real_class_reaches_for_redis(memory: type, real: type) -> None:
    """A method that is added to the real class must be thought of here as well."""
    inherited = {
        "enqueue",
        "enqueue_many",
        "feed",
        "name_of",
        "results",
        "schema_of",
        *({"batch", "close", "result", "send"} if memory is SyncMemoryProducer else ()),
    }
    for name, function in inspect.getmembers(real, inspect.isfunction):
        if not name.startswith("_") and name not in inherited:
            assert name in vars(memory), name
            mine, theirs = (inspect.signature(getattr(each, name)) for each in (memory, real))
            assert list(mine.parameters) == list(theirs.parameters), (name, function)


class Review(BaseModel):
    """What a service asks for."""

    label: Literal["pos", "neg"]
    stars: int = 3


async def test_outputs_are_instances_of_the_schema_that_was_fed() -> None:
    """A service parsed the text of each answer itself, and its tests did too."""
    producer = MemoryProducer(lambda _: 'Sure: {"label": "pos"}')
    await producer.feed([{"custom_id": "a", "prompt": "x"}], batch="b", schema=Review)
    found = [result.parsed async for result in producer.batch("b").results()]
    assert found == [Review(label="pos")]
    assert (await producer.result("b:a")).parsed == Review(label="pos")
    plain = MemoryProducer('{"label": "neg"}')
    await plain.feed(
        [{"custom_id": "a", "prompt": "x"}], batch="b", schema=Review.model_json_schema()
    )
    assert (await plain.result("b:a")).parsed == {"label": "neg"}
    await plain.feed([{"custom_id": "a", "prompt": "x"}], batch="c")
    assert (await plain.result("c:a")).parsed is None


async def test_a_validator_of_the_class_raises_only_for_its_result() -> None:
    """One row that a validator refuses ended the loop over all others."""

    class Strict(Review):
        @field_validator("stars")
        @classmethod
        def _many(cls, stars: int) -> int:
            if stars > 5:
                raise ValueError("too many")
            return stars

    producer = MemoryProducer(lambda r: r["messages"][0]["content"])
    rows = [{"prompt": json.dumps({"label": "pos", "stars": stars})} for stars in (9, 1)]
    await producer.feed(rows, batch="b", schema=Strict)
    bad, good = [result async for result in producer.batch("b").results()]
    assert good.parsed == Strict(label="pos", stars=1)
    with pytest.raises(ValidationError, match="too many"):
        _ = bad.parsed


async def test_a_schema_that_cannot_be_used_is_refused_before_anything_is_fed() -> None:
    """The rows were paid for, and then every answer was refused."""
    producer = MemoryProducer()
    for schema in ({"$ref": "http://a/b"}, {"type": "strin"}, int, {"enum": object()}):
        with pytest.raises(SchemaError):
            await producer.feed([{"prompt": "x"}], batch="b", schema=schema)
    assert not producer.requests


def test_a_plain_producer_takes_a_schema_too() -> None:
    """Notebooks use plain calls."""
    producer = SyncMemoryProducer('{"label": "pos"}')
    producer.feed([{"custom_id": "a", "prompt": "x"}], batch="b", schema=Review)
    assert [result.parsed for result in producer.batch("b").results()] == [Review(label="pos")]


async def test_a_single_job_is_read_by_the_schema_that_is_given() -> None:
    """It has no batch whose acceptance says what its output is."""
    producer = MemoryProducer('{"label": "pos"}')
    await producer.enqueue(hello(), job_id="j", accept={"schema": Review})
    assert (await producer.result("j", schema=Review)).parsed == Review(label="pos")
    assert (await producer.result("j")).parsed is None
    with pytest.raises(SchemaError):
        await producer.enqueue(hello(), accept={"schema": {"$ref": "http://a/b"}})
