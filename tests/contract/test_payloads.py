"""Payloads of other producers: whatever is in a queue ends as a row, and no worker ends of it."""

from __future__ import annotations

import json
import random
import string
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nightmill.queue import keys
from nightmill.records.state import JobState
from tests.postgres import postgres
from tests.rig import Rig, hello, rigged


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig without workers."""
    async with rigged(redis_url, tmp_path) as made:
        yield made


def payload_with(key: bytes, *, et: bytes = b"1") -> bytes:
    """Return a good payload but for one key of `k`, or for `et`."""
    params = json.dumps(hello()).encode()
    return b'{"t":null,"f":"generate","a":[],"k":{"params":%b,%b},"et":%b}' % (params, key, et)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[1]",
        b'{"f":"generate"',
        b'{"t":null,"f":"generate","a":[],"k":' + b"[" * 5000 + b"]" * 5000 + b',"et":1}',
        b'{"t":null,"f":"generate","a":[],"k":{"params":{"model":"\xff"}},"et":1}',
        b'{"t":null,"f":"generate","a":[],"k":{"params":7},"et":1}',
        b'{"t":null,"f":"generate","a":[],"k":null,"et":1}',
        b'{"t":null,"f":"generate","a":{},"k":{},"et":"x"}',
        b'{"t":null,"f":["generate"],"a":[],"k":{},"et":1}',
        payload_with(b'"seq":9223372036854775808'),
        payload_with(b'"run":9223372036854775808'),
        payload_with(b'"run":-1'),
        payload_with(b'"custom_id":"\\ud800"'),
        payload_with(b'"custom_id":"' + b"x" * 513 + b'"'),
        payload_with(b'"seq":1', et=b"9223372036854775808"),
        payload_with(b'"seq":1', et=b"100000000000000000"),
    ],
)
async def test_an_unreadable_payload_ends_as_a_failed_row(rig: Rig, payload: bytes) -> None:
    """No payload ends a worker: the jobs beside it run, each with one call."""
    await rig.redis.set(f"{keys.PAYLOAD}odd", payload)
    await rig.redis.zadd(keys.QUEUE, {"odd": 1})
    good = await rig.producer.enqueue_many([hello(f"{i}") for i in range(8)])
    await rig.work_off()
    assert (await rig.row("odd")).status is JobState.FAILED
    for receipt in good:
        assert (await rig.row(receipt.job_id)).status is JobState.SUCCEEDED
    assert rig.calls() == 8


async def require_long_id_fails(rig: Rig) -> None:
    """Run a job with an id of 6,000 bytes between two good ones; check the three rows."""
    letters = random.Random(1).choices(string.ascii_letters, k=6000)
    job_id = "".join(letters)  # random, so that PostgreSQL cannot compress it
    first = await rig.producer.enqueue(hello())
    await rig.redis.set(f"{keys.PAYLOAD}{job_id}", payload_with(b'"seq":1'))
    await rig.redis.zadd(keys.QUEUE, {job_id: 1})
    second = await rig.producer.enqueue(hello())
    await rig.work_off()
    row = await rig.row(job_id)
    assert row.error is not None
    assert row.error.type == "invalid_payload"
    assert "its id: 6,000 bytes of UTF-8; allowed: 512" in row.error.message
    for receipt in (first, second):
        assert (await rig.row(receipt.job_id)).status is JobState.SUCCEEDED
    assert not await rig.redis.exists(keys.PAYLOAD + job_id, keys.QUEUE)
    assert rig.calls() == 2


async def test_an_id_that_is_too_long_ends_as_a_failed_row(rig: Rig) -> None:
    """The row has a short form of the id, under which it is found."""
    await require_long_id_fails(rig)


async def test_an_id_that_postgresql_cannot_index_ends_as_a_failed_row(
    redis_url: str, tmp_path: Path
) -> None:
    """A worker would die of such a row at every start, with the paid answers beside it."""
    with postgres() as server:
        async with rigged(redis_url, tmp_path, store_url=server.url) as rig:
            await require_long_id_fails(rig)


async def test_names_of_512_bytes_fit_postgresql(redis_url: str, tmp_path: Path) -> None:
    """The longest batch and custom_id are indexed together."""
    generator = random.Random(2)
    batch, custom_id = ("".join(generator.choices(string.ascii_letters, k=512)) for _ in range(2))
    with postgres() as server:
        async with rigged(redis_url, tmp_path, store_url=server.url) as rig:
            receipt = await rig.producer.enqueue(hello(), batch=batch, custom_id=custom_id)
            await rig.work_off()
            row = await rig.row(receipt.job_id)
            assert (row.job_id, row.status) == (f"{batch}:{custom_id}", JobState.SUCCEEDED)


async def test_an_id_that_is_not_text_is_set_aside(rig: Rig) -> None:
    """Such an id cannot be stored, logged or aborted."""
    await rig.redis.set(keys.PAYLOAD.encode() + b"\xff\xfe", b"{}")
    await rig.redis.zadd(keys.QUEUE, {b"\xff\xfe": 1})
    good = await rig.producer.enqueue(hello(), job_id="grün")
    await rig.work_off()
    assert await rig.redis.zrange(keys.FOREIGN, 0, -1) == [b"\xff\xfe"]
    assert (await rig.row(good.job_id)).status is JobState.SUCCEEDED


async def test_a_single_job_whose_payload_is_gone_fails_with_the_reason(rig: Rig) -> None:
    """The payload was evicted or expired. The job was accepted, so it ends as a row."""
    receipt = await rig.producer.enqueue(hello())
    await rig.redis.delete(keys.PAYLOAD + receipt.job_id)
    await rig.work_off()
    row = await rig.row(receipt.job_id)
    assert row.error is not None
    assert row.error.type == "payload_gone"


async def test_a_payload_over_every_limit_is_refused_without_being_decoded(rig: Rig) -> None:
    """A producer may send 100 MB, and Redis serves no other client while it decodes JSON."""
    await rig.redis.set(f"{keys.PAYLOAD}huge", b"{" + b" " * 100_000_000)
    await rig.redis.zadd(keys.QUEUE, {"huge": 1})
    await rig.work_off()
    assert (await rig.row("huge")).status is JobState.FAILED
    assert rig.calls() == 0
