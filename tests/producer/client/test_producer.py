"""Producer and SyncProducer against a real Valkey, with a real worker where a result is due."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from nightmill import (
    InvalidParamsError,
    JobNotFoundError,
    JobState,
    Producer,
    QueueUnavailableError,
    ResultTimeoutError,
    SyncProducer,
    Taken,
    load_settings,
)
from nightmill.errors import StoreMissingError
from nightmill.queue import keys, wire
from nightmill.queue.connection import connect
from nightmill.queue.result_keys import from_redis
from nightmill.records.job import now_ms
from tests.rig import hello, rigged


async def test_the_receipt_says_that_an_id_is_queued_already(redis_url: str) -> None:
    """A service that repeats a request after a timeout must not pay twice."""
    async with Producer(redis_url) as producer:
        first = await producer.enqueue(hello(), job_id="one")
        again = await producer.enqueue(hello("something else"), job_id="one")
    assert (first.taken, first.new) == (Taken.ENQUEUED, True)
    assert (again.taken, again.new) == (Taken.ALREADY_QUEUED, False)


async def test_a_finished_id_is_not_paid_for_again(redis_url: str, tmp_path: Path) -> None:
    """Redis keeps the result for an hour; after that the store's row prevents a second call."""
    async with rigged(redis_url, tmp_path) as rig:
        await rig.producer.enqueue(hello(), job_id="one")
        await rig.work_off()
        assert (await rig.producer.enqueue(hello(), job_id="one")).taken is Taken.ALREADY_FINISHED
        await rig.redis.flushdb()
        assert (await rig.producer.enqueue(hello(), job_id="one")).new
        await rig.work_off()
        assert rig.calls() == 1
        assert (await rig.producer.result("one")).status is JobState.SUCCEEDED


async def test_results_are_waited_for_and_come_from_the_store(
    redis_url: str, tmp_path: Path
) -> None:
    """The row has everything, attempts included."""
    async with rigged(redis_url, tmp_path) as rig, rig.working():
        receipt = await rig.producer.enqueue(hello("are you there?"))
        result = await rig.producer.result(receipt.job_id, wait=10)
    assert result.status is JobState.SUCCEEDED
    assert result.text.startswith("Re: are you there?")
    assert [attempt.status for attempt in result.attempts] == [200]


async def test_without_a_store_the_message_is_read_from_redis(
    redis_url: str, tmp_path: Path
) -> None:
    """The base install has no store; Redis keeps the message of a single job for an hour."""
    async with rigged(redis_url, tmp_path) as rig:
        single = await rig.producer.enqueue(hello())
        batched = await rig.producer.enqueue(hello(), batch="b", custom_id="c")
        await rig.work_off()
        elsewhere = load_settings(redis_url=redis_url, data_dir=tmp_path / "nowhere")
        async with Producer(settings=elsewhere) as producer:
            result = await producer.result(single.job_id)
            assert (result.status, result.stop_reason) == (JobState.SUCCEEDED, "max_tokens")
            assert result.usage.output_tokens == 50
            with pytest.raises(StoreMissingError, match="results store") as raised:
                await producer.result(batched.job_id)
        looks = (
            "b:c succeeded; its answer is in the workers' results store, and this process looks in"
        )
        assert str(raised.value) == (
            f"{looks} {tmp_path / 'nowhere' / 'results.db'}. Set NIGHTMILL_STORE_URL (or "
            "NIGHTMILL_DATA_DIR) to theirs"
        )


async def test_an_unknown_job_and_an_unfinished_one_are_different_errors(redis_url: str) -> None:
    """A wait for a job that was never enqueued would have no end."""
    async with Producer(redis_url) as producer:
        with pytest.raises(JobNotFoundError, match="neither in the queue nor in the results"):
            await producer.result("unknown", wait=None)
        await producer.enqueue(hello(), job_id="slow")
        with pytest.raises(ResultTimeoutError, match="still queued or in flight"):
            await producer.result("slow", wait=0.05)


async def test_many_come_from_any_iterable(redis_url: str) -> None:
    """Receipts are in the order given, over chunks and models."""

    async def rows() -> AsyncIterator[dict[str, object]]:
        for n in range(1200):
            yield {"custom_id": f"{n}", "params": {**hello(), "model": f"m{n % 2}"}}

    async with Producer(redis_url) as producer:
        receipts = await producer.enqueue_many(rows(), batch="b")
        assert [r.job_id for r in receipts] == [f"b:{n}" for n in range(1200)]
        assert all(r.new for r in receipts)
        again = await producer.enqueue_many([{"custom_id": "7", **hello()}], batch="b")
        assert [r.taken for r in again] == [Taken.ALREADY_QUEUED]


async def test_the_first_bad_one_of_many_is_named_by_its_place(redis_url: str) -> None:
    """The caller must be able to find it among thousands."""
    bad = {**hello(), "temperature": 1.5}
    async with Producer(redis_url) as producer:
        with pytest.raises(InvalidParamsError, match=r"line 3: temperature") as caught:
            await producer.enqueue_many([hello(), hello(), bad])
    assert (caught.value.line, caught.value.field) == (3, "temperature")


async def test_an_unknown_field_beside_params_is_refused_by_its_name(redis_url: str) -> None:
    """A field beside params is not sent; the paid answer would have ignored it."""
    bad = {"custom_id": "c", "params": hello(), "max_tokens": 5}
    async with Producer(redis_url) as producer:
        with pytest.raises(InvalidParamsError, match=r"line 2: max_tokens: unknown field"):
            await producer.enqueue_many([{"params": hello()}, bad])


@pytest.mark.parametrize("name", ["a:b", "", "two\nlines"])
async def test_a_batch_needs_a_usable_name(redis_url: str, name: str) -> None:
    """A colon separates the batch from the custom_id in a job's id."""
    async with Producer(redis_url) as producer:
        with pytest.raises(InvalidParamsError, match="batch"):
            await producer.enqueue(hello(), batch=name, custom_id="c")


async def test_an_expired_job_gets_its_row_without_a_call(redis_url: str, tmp_path: Path) -> None:
    """A job whose deadline passed while no worker ran is not called."""
    async with rigged(redis_url, tmp_path) as rig:
        past = datetime.now(UTC) - timedelta(seconds=1)
        receipt = await rig.producer.enqueue(hello(), expires=past)
        await rig.work_off()
        assert (await rig.row(receipt.job_id)).status is JobState.EXPIRED
        assert rig.calls() == 0


@pytest.mark.parametrize("off_ms", [600_000, -600_000])
async def test_a_deadline_from_now_goes_by_the_clock_of_redis(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, off_ms: int
) -> None:
    """Workers compare deadlines with Redis's clock; this machine's may be ten minutes off."""
    right = now_ms()
    monkeypatch.setattr("nightmill.client.producer.now_ms", lambda: right + off_ms)
    expires = timedelta(seconds=60)
    with SyncProducer(redis_url) as sync:
        names = [sync.enqueue(hello(), expires=expires).job_id]
    async with Producer(redis_url) as producer, aclosing(connect(producer.settings)) as redis:
        names.append((await producer.enqueue(hello(), expires=expires)).job_id)
        for name in names:
            job, enqueued_at = wire.decode_job(await redis.get(keys.PAYLOAD + name))
            assert enqueued_at == right + off_ms
            assert job.expires_at is not None
            assert 60_000 <= job.expires_at - right < 70_000


async def test_a_redis_that_is_away_is_one_clear_error(tmp_path: Path) -> None:
    """The error is not a traceback out of a client library."""
    with pytest.raises(QueueUnavailableError, match="Redis does not answer"):
        async with Producer(f"unix://{tmp_path}/no.sock"):
            pass


async def test_the_blocking_producer_does_the_same(redis_url: str, tmp_path: Path) -> None:
    """It also works in a thread that runs an event loop, which it blocks while it waits."""
    async with rigged(redis_url, tmp_path) as rig:
        with SyncProducer(settings=rig.settings) as producer:
            receipts = producer.enqueue_many([hello("a"), hello("b")])
            again = producer.enqueue(hello("a"), job_id=receipts[0].job_id)
            assert [r.new for r in (*receipts, again)] == [True, True, False]
            await rig.work_off()
            assert producer.result(receipts[1].job_id, wait=1).text.startswith("Re: b")
            with pytest.raises(JobNotFoundError):
                producer.result("unknown")


def test_a_failed_job_says_why_from_redis_alone() -> None:
    """The result in Redis has the error's type and fix."""
    kept = (
        b'{"t":1,"f":"generate","a":[],"k":{},"et":1,"s":false,"r":{"$error":"failed",'
        b'"message":"too long","type":"invalid_request_error","fix":"shorten it",'
        b'"status":"failed"},"st":2,"ft":3,"q":"nightmill:queue","id":"x"}'
    )
    result = from_redis("x", kept)
    assert result.status is JobState.FAILED
    assert result.error is not None
    assert (result.error.type, result.error.fix) == ("invalid_request_error", "shorten it")
