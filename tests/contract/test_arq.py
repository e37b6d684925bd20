"""Our queue through arq 0.28 itself: its producers, its Job API, its (de)serialisers."""

from __future__ import annotations

import asyncio
import json
import pickle
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import pytest
from arq import ArqRedis
from arq.jobs import DeserializationError, Job, JobStatus, deserialize_job, deserialize_result
from redis.asyncio import ConnectionPool

import nightmill
from nightmill import JobFailedError
from nightmill.errors import PayloadError
from nightmill.queue import keys
from nightmill.records.state import JobState
from tests.rig import Rig, hello, rigged, until

SOON = 0.01


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig without workers."""
    async with rigged(redis_url, tmp_path) as rig:
        yield rig


@pytest.fixture
async def arq(redis_url: str) -> AsyncIterator[ArqRedis]:
    """Return arq's own client, configured as in docs/wire.md."""
    client = ArqRedis(
        ConnectionPool.from_url(redis_url),
        default_queue_name=keys.QUEUE,
        job_serializer=nightmill.dump,
        job_deserializer=nightmill.load,
    )
    yield client
    await client.aclose(close_connection_pool=True)


async def test_a_job_of_a_plain_arq_producer_runs(rig: Rig, arq: ArqRedis) -> None:
    """The request may be the keyword `params`. arq's Job reports every stage."""
    job = await arq.enqueue_job("generate", params=hello())
    assert job is not None
    assert await job.status() is JobStatus.queued
    info = await job.info()
    assert info is not None
    assert (info.function, info.kwargs) == ("generate", {"params": hello()})
    rig.sim.configure(latency_s=0.3)
    async with rig.working():
        await rig.sim.until(lambda: rig.sim.in_flight == 1)
        assert await job.status() is JobStatus.in_progress
        message = await job.result(timeout=10, poll_delay=SOON)
    assert message["role"] == "assistant"
    assert await job.status() is JobStatus.complete
    ended = await job.result_info()
    assert ended is not None
    assert (ended.success, ended.job_try, ended.queue_name) == (True, 1, keys.QUEUE)
    assert (await rig.row(job.job_id)).status is JobState.SUCCEEDED


async def test_the_request_may_be_the_first_argument(rig: Rig, arq: ArqRedis) -> None:
    """Producers may also write `enqueue_job("generate", {...})`."""
    job = await arq.enqueue_job("generate", hello())
    assert job is not None
    await rig.work_off()
    assert (await job.result(timeout=1))["type"] == "message"


async def test_a_deferred_job_waits(rig: Rig, arq: ArqRedis) -> None:
    """Arq's _defer_by is the score, and the score is our due time."""
    job = await arq.enqueue_job("generate", hello(), _defer_by=timedelta(seconds=0.5))
    assert job is not None
    assert await job.status() is JobStatus.deferred
    began = time.monotonic()
    await rig.work_off()
    assert time.monotonic() - began >= 0.4
    assert await job.status() is JobStatus.complete


async def test_a_failed_job_raises_in_its_producer(rig: Rig, arq: ArqRedis) -> None:
    """The error is stored as JSON and becomes an exception again, which names the fault."""
    job = await arq.enqueue_job("generate", params={"messages": []})
    assert job is not None
    await rig.work_off()
    with pytest.raises(JobFailedError, match="messages"):
        await job.result(timeout=1)
    assert (await rig.row(job.job_id)).status is JobState.FAILED
    assert rig.calls() == 0


async def test_aborting_a_queued_job_stores_a_cancelled_row(rig: Rig, arq: ArqRedis) -> None:
    """Job.abort() returns True, and no call is made."""
    job = await arq.enqueue_job("generate", hello(), _defer_by=3600)
    assert job is not None
    async with rig.working():
        assert await job.abort(timeout=10, poll_delay=SOON)
    row = await rig.row(job.job_id)
    assert (row.status, rig.calls()) == (JobState.CANCELLED, 0)
    assert not await rig.redis.exists(keys.ABORTS, keys.QUEUE)


async def test_aborting_a_job_in_flight_ends_its_call(rig: Rig, arq: ArqRedis) -> None:
    """The call is cut off, its row is `cancelled`, and the producer gets a CancelledError."""
    rig.sim.configure(latency_s=30)
    job = await arq.enqueue_job("generate", hello())
    assert job is not None
    async with rig.working():
        await rig.sim.until(lambda: rig.sim.in_flight == 1)
        assert await job.abort(timeout=10, poll_delay=SOON)
        with pytest.raises(asyncio.CancelledError):
            await job.result(timeout=1)
    row = await rig.row(job.job_id)
    assert (row.status, len(row.attempts)) == (JobState.CANCELLED, 1)


async def test_aborts_of_unknown_jobs_do_not_hide_others(rig: Rig, arq: ArqRedis) -> None:
    """A claim reads 100 aborts: it removes those of unknown jobs, so that others are read."""
    await arq.zadd(keys.ABORTS, {f"unknown-{i}": i for i in range(150)})
    job = await arq.enqueue_job("generate", hello(), _defer_by=3600)
    assert job is not None
    async with rig.working():
        assert await job.abort(timeout=10, poll_delay=SOON)
    assert not await rig.redis.exists(keys.ABORTS)


async def test_arq_reads_what_our_producer_and_worker_write(rig: Rig) -> None:
    """Both of arq's deserialisers read them, so arq's tools work, such as dashboards."""
    receipt = await rig.producer.enqueue(hello())
    payload = await rig.redis.get(keys.PAYLOAD + receipt.job_id)
    job = deserialize_job(payload, deserializer=nightmill.load)
    assert (job.function, len(job.args)) == ("generate", 0)
    await rig.work_off()
    kept = await rig.redis.get(keys.RESULT + receipt.job_id)
    result = deserialize_result(kept, deserializer=nightmill.load)
    assert (result.success, result.job_id) == (True, receipt.job_id)
    assert result.result["stop_reason"]


async def test_a_pickle_is_never_loaded(rig: Rig, redis_url: str, tmp_path: Path) -> None:
    """Arq's default serialiser is pickle, and loading one runs code: the job fails instead."""
    trap = tmp_path / "touched"
    payload = pickle.dumps({"t": None, "f": "generate", "a": (Trap(trap),), "k": {}, "et": 1})
    await rig.redis.set(keys.PAYLOAD + "evil", payload)
    await rig.redis.zadd(keys.QUEUE, {"evil": 1})
    await rig.work_off()
    row = await rig.row("evil")
    assert (row.status, row.error and row.error.type) == (JobState.FAILED, "invalid_payload")
    assert await rig.redis.execute_command("HGET", keys.QUARANTINE, "evil") == payload
    assert not trap.exists()
    with pytest.raises(PayloadError):
        nightmill.load(payload)
    client = ArqRedis(ConnectionPool.from_url(redis_url), job_deserializer=nightmill.load)
    with pytest.raises(JobFailedError):
        await Job("evil", client, keys.QUEUE, nightmill.load).result(timeout=1)
    with pytest.raises(DeserializationError):
        deserialize_job(payload, deserializer=nightmill.load)
    await client.aclose(close_connection_pool=True)
    assert not trap.exists()


async def test_another_function_is_set_aside_untouched(rig: Rig, arq: ArqRedis) -> None:
    """A job of another program that is in the wrong queue must not be failed by us."""
    job = await arq.enqueue_job("send_mail", to="you")
    assert job is not None
    payload = await rig.redis.get(keys.PAYLOAD + job.job_id)
    await rig.work_off()
    assert await rig.redis.zrange(keys.FOREIGN, 0, -1) == [job.job_id.encode()]
    assert await rig.redis.get(keys.PAYLOAD + job.job_id) == payload
    assert await rig.store.get(job.job_id) is None


async def test_a_job_of_raw_commands_runs(rig: Rig) -> None:
    """Any language with a Redis client can enqueue, in one transaction."""
    now = int(time.time() * 1000)
    payload: dict[str, object] = {
        "t": None,
        "f": "generate",
        "a": [],
        "k": {"params": hello()},
        "et": now,
    }
    async with rig.redis.pipeline(transaction=True) as pipe:
        pipe.set(f"{keys.PAYLOAD}raw", json.dumps(payload), nx=True)
        pipe.zadd(keys.QUEUE, {"raw": now}, nx=True)
        await pipe.execute()
    await rig.work_off()
    assert (await rig.row("raw")).status is JobState.SUCCEEDED


async def has_no_ttl(arq: ArqRedis, job_id: str) -> bool:
    """Return whether a payload has no time-to-live."""
    return int(await arq.ttl(keys.PAYLOAD + job_id)) == -1


async def test_the_time_to_live_of_arqs_payloads_is_removed(rig: Rig, arq: ArqRedis) -> None:
    """Arq sets one day, and a backlog of two days would lose its older half."""
    rig.sim.configure(down=401)
    await arq.enqueue_job("generate", hello("stops the account"), _job_id="first")
    async with rig.working():
        await rig.sim.until(lambda: rig.calls() == 1)
        await arq.enqueue_job("generate", hello(), _job_id="waits")
        await until(lambda: has_no_ttl(arq, "waits"))


async def test_a_producer_whose_clock_is_ahead_does_not_wait_for_it(
    rig: Rig, arq: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arq sets due times by the producer's clock, here ten minutes fast."""
    ahead = int(time.time() * 1000) + 600_000
    async with rig.working():
        monkeypatch.setattr("arq.connections.timestamp_ms", lambda: ahead)
        now_due = await arq.enqueue_job("generate", hello("now"))
        later = await arq.enqueue_job("generate", hello("later"), _defer_by=3600)
        monkeypatch.undo()
        assert now_due is not None
        assert later is not None
        began = time.monotonic()
        await now_due.result(timeout=10, poll_delay=SOON)
        assert time.monotonic() - began < 9  # and not ten minutes
        assert await later.status() is JobStatus.deferred
    due = await rig.redis.zscore(keys.QUEUE, later.job_id)
    assert abs(due / 1000 - time.time() - 3600) < 5


async def test_a_clock_behind_starts_at_once(
    rig: Rig, arq: ArqRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock ten minutes slow, the due time is in the past."""
    behind = int(time.time() * 1000) - 600_000
    monkeypatch.setattr("arq.connections.timestamp_ms", lambda: behind)
    job = await arq.enqueue_job("generate", hello())
    assert job is not None
    await rig.work_off()
    assert rig.calls() == 1


class Trap:
    """Loading a pickle of it creates a file."""

    def __init__(self, path: Path) -> None:
        """Take the path of the file."""
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        """Return the call that loading the pickle makes."""
        return Path.touch, (self.path,)

    def __call__(self) -> NoReturn:
        """Fail: it is never called."""
        raise AssertionError
