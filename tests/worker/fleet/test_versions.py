"""The API version and the betas of a job reach the endpoint, its row and its next run."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nightmill.enqueue.feeder import Feeder
from nightmill.errors import BatchChangedError
from nightmill.maintenance.requeue import requeue
from nightmill.queue import keys, wire
from nightmill.queue.batches import Batches
from nightmill.records.api import Api
from nightmill.records.job import now_ms
from nightmill.records.state import JobState
from nightmill.sources import items_of
from tests.rig import Rig, hello, rigged

STRICT = "2026-10-21"
"""A version that refuses `temperature`: the simulator shows by it what it was asked for."""
WARM = {**hello(), "temperature": 0.5}


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return everything but a worker."""
    async with rigged(redis_url, tmp_path) as made:
        yield made


async def test_a_job_is_called_with_its_own_version(rig: Rig) -> None:
    """The version was the worker's alone, so that one job could not try another."""
    old = await rig.producer.enqueue(WARM)
    new = await rig.producer.enqueue(WARM, anthropic_version=STRICT, anthropic_beta=["b"])
    await rig.work_off()
    row = await rig.row(new.job_id)
    assert (await rig.row(old.job_id)).status is JobState.SUCCEEDED
    assert row.status is JobState.FAILED
    assert row.error is not None
    assert row.error.message == "temperature: Extra inputs are not permitted"
    assert row.api == Api(anthropic_version=STRICT, anthropic_beta=("b",))


async def test_a_retry_asks_for_the_same_version(rig: Rig) -> None:
    """The stored request alone would be called with another version than the first time."""
    rows = [{**WARM, "custom_id": "a", "anthropic_version": STRICT, "anthropic_beta": "b"}]
    await rig.producer.feed(rows, batch="night")
    await rig.work_off()
    batches = Batches(rig.redis)
    await requeue("night", rig.store, rig.producer, batches, patch={"temperature": None})
    payload = await rig.redis.get(keys.PAYLOAD + "night:a")
    job, _ = wire.decode_job(payload)
    assert job.api == Api(anthropic_version=STRICT, anthropic_beta=("b",))
    await rig.work_off()
    row = await rig.row("night:a")
    assert (row.run, row.status, row.api) == (1, JobState.SUCCEEDED, job.api)


async def test_another_version_is_a_changed_request(rig: Rig) -> None:
    """Running a file again with --beta must not keep the answers of the calls without it."""
    rows = [{**hello(), "custom_id": "a"}]
    await rig.producer.feed(rows, batch="night")
    with pytest.raises(BatchChangedError, match="its anthropic_beta changed"):
        await rig.producer.feed(rows, batch="night", anthropic_beta=["b"])
    await rig.work_off()
    async with Feeder("night", rig.producer, Batches(rig.redis), rig.store) as feeder:
        await feeder.check(items_of(rows, rig.producer.defaults))  # type: ignore[arg-type]
        rows[0]["anthropic_version"] = STRICT
        with pytest.raises(BatchChangedError, match="anthropic_version changed"):
            await feeder.check(items_of(rows, rig.producer.defaults))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fields",
    [
        {"anthropic_version": "2026-10-21\r\nx-evil: 1"},
        {"anthropic_beta": ["a\nb"]},
        {"anthropic_beta": "a"},
        {"anthropic_version": 7},
    ],
)
async def test_a_payload_that_could_make_another_header_is_refused(
    rig: Rig, fields: dict[str, object]
) -> None:
    """Any program may write a payload; the worker is the last door before the header."""
    body = {"f": "generate", "k": {"params": hello(), **fields}, "et": now_ms()}
    await rig.redis.set(keys.PAYLOAD + "x", json.dumps(body))
    await rig.redis.zadd(keys.QUEUE, {"x": now_ms()})
    await rig.work_off()
    row = await rig.row("x")
    assert row.error is not None
    assert (row.error.type, rig.calls()) == ("invalid_payload", 0)
