"""Requests over MAX_PAYLOAD_BYTES stay in the store; workers read them there when they call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from nightmill.errors import StoreUnavailableError
from nightmill.queue import keys
from nightmill.records.job import now_ms, request_hash
from nightmill.records.state import JobState
from nightmill.records.stored_body import LARGEST, reference_to, stored_body
from nightmill.store.message_batches import PAGE_BYTES, MessageBatches
from tests.gateway.batches.made import PATH, ended, request, results
from tests.gateway.batches.test_feeding import fed
from tests.gateway.door import opened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightmill.records.message_batch import StoredRequest
    from tests.gateway.door import Door
    from tests.rig import Rig

SMALL = 2_000
"""MAX_PAYLOAD_BYTES of these tests."""


def large(number: int, size: int = 50_000) -> dict[str, Any]:
    """Return a request of `size` characters."""
    text = f"prompt {number} " + "é" * size
    return request(number, messages=[{"role": "user", "content": text}])


@pytest.fixture
async def narrow(rig: Rig) -> Rig:
    """Return a rig with a small MAX_PAYLOAD_BYTES."""
    rig.settings = rig.settings.model_copy(update={"max_payload_bytes": SMALL})
    return rig


async def made(door: Door, *requests: dict[str, Any]) -> str:
    """Create a batch and return its id."""
    answer = await door("POST", PATH, json={"requests": requests})
    assert answer.status == 200, answer.body
    return str(answer.json["id"])


async def test_a_large_request_is_called_whole(narrow: Rig) -> None:
    """It is not in Redis, and its row has it, as that of every other request."""
    rig = narrow
    async with opened(rig.settings) as door:
        batch = await made(door, large(0), request(1), large(2))
        await fed(door, batch, 3)
        payload = await rig.redis.get(f"{keys.PAYLOAD}{batch}:c0")
        assert payload is not None
        assert len(payload) < SMALL
        async with rig.working(max_payload_bytes=SMALL):
            counts = (await ended(door, batch))["request_counts"]
        assert counts["succeeded"] == 3
        assert set((await results(door, batch)).values()) == {"succeeded"}
    for number, sent in ((0, large(0)), (1, request(1)), (2, large(2))):
        row = await rig.row(f"{batch}:c{number}")
        assert row.params is not None
        assert json.loads(bytes(row.params)) == sent["params"]
        assert row.request_hash == request_hash(row.params)
        assert row.usage.input_tokens > (10_000 if number != 1 else 0)


async def test_cancelled_rows_have_it_too(narrow: Rig) -> None:
    """Those that were queued, and those that were never fed."""
    async with opened(narrow.settings.model_copy(update={"window": 2})) as door:
        batch = await made(door, *(large(number) for number in range(5)))
        await fed(door, batch, 2)
        await door("POST", f"{PATH}/{batch}/cancel")
        assert (await ended(door, batch))["request_counts"]["canceled"] == 5
    for number in range(5):
        row = await narrow.row(f"{batch}:c{number}")
        assert row.params is not None
        assert json.loads(bytes(row.params)) == large(number)["params"]


async def test_without_kept_params_nothing_is_kept(narrow: Rig) -> None:
    """KEEP_PARAMS concerns large requests, too."""
    async with opened(narrow.settings) as door:
        batch = await made(door, large(0))
        async with narrow.working(max_payload_bytes=SMALL, keep_params=False):
            await ended(door, batch)
    assert (await narrow.row(f"{batch}:c0")).params is None


async def test_a_store_that_is_away_gives_the_job_back(
    narrow: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not failed, and the attempt does not count."""
    real, away = MessageBatches.bodies, 2

    async def bodies(
        self: MessageBatches, batch: str, seqs: Sequence[int]
    ) -> dict[int, StoredRequest]:
        nonlocal away
        if away:
            away -= 1
            raise StoreUnavailableError("away")
        return await real(self, batch, seqs)

    monkeypatch.setattr(MessageBatches, "bodies", bodies)
    async with opened(narrow.settings) as door:
        batch = await made(door, large(0))
        async with narrow.working(max_payload_bytes=SMALL):
            assert (await ended(door, batch))["request_counts"]["succeeded"] == 1
    row = await narrow.row(f"{batch}:c0")
    assert (row.attempt_count, row.snooze_count, away) == (1, 0, 0)


async def test_a_request_that_is_gone_is_cancelled(narrow: Rig) -> None:
    """Its batch was deleted by force; nothing is called."""
    async with opened(narrow.settings) as door:
        batch = await made(door, large(0))
        await fed(door, batch, 1)
    await MessageBatches(narrow.store).drop(batch)
    await narrow.work_off()
    row = await narrow.row(f"{batch}:c0")
    assert (row.status, row.params, narrow.calls()) == (JobState.CANCELLED, None, 0)


async def test_a_batch_cannot_refer_to_another_one(narrow: Rig) -> None:
    """It may be another tenant's. The client cannot write a reference either."""
    async with opened(narrow.settings) as door:
        theirs = await made(door, large(0))
        at = msgspec.json.decode(reference_to(theirs, 1, b"{}"))
        forged = request(1) | {"params": at | request(1)["params"]}
        answer = await door("POST", PATH, json={"requests": [forged]})
        assert answer.error == (400, "invalid_request_error")
        assert "$stored" in answer.message
    params = json.dumps(at)
    job = {"params": json.loads(params), "custom_id": "c9", "batch": "mine"}
    payload: dict[str, object] = {"t": None, "f": "generate", "a": [], "k": job, "et": now_ms()}
    await narrow.redis.set(f"{keys.PAYLOAD}mine:c9", json.dumps(payload, separators=(",", ":")))
    await narrow.redis.zadd(keys.QUEUE, {"mine:c9": now_ms()})
    async with narrow.working(max_payload_bytes=SMALL):
        row = await narrow.row("mine:c9")
    assert row.error is not None
    assert (row.status, row.error.type) == (JobState.FAILED, "invalid_request_error")


async def test_32_mb_are_the_most(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the API has it, whatever MAX_PAYLOAD_BYTES is."""
    assert LARGEST == 32 << 20
    monkeypatch.setattr("nightmill_gateway.services.LARGEST", 100_000)
    async with opened(rig.settings) as door:
        answer = await door("POST", PATH, json={"requests": [large(0)]})
        assert answer.status == 413
        assert "requests.0.params" in answer.message


async def test_pages_are_bounded_in_bytes(rig: Rig) -> None:
    """A page of 500 requests of a megabyte would not be."""
    size = PAGE_BYTES // 5  # é has two bytes
    async with opened(rig.settings) as door:
        requests = [large(number, size) for number in range(4)] + [request(9)]
        batch = await made(door, *requests)
        pages = [page async for page in MessageBatches(rig.store).requests(batch)]
    assert [[each.seq for each in page] for page in pages] == [[1, 2], [3, 4, 5]]


async def test_a_job_that_runs_isolated(narrow: Rig) -> None:
    """The process apart reads the request itself."""
    async with opened(narrow.settings) as door:
        batch = await made(door, large(0))
        await fed(door, batch, 1)
        job_id = f"{batch}:c0"
        await narrow.redis.execute_command("HSET", keys.RECORD + job_id, "deaths", 2)
        async with narrow.working(max_payload_bytes=SMALL):
            assert (await ended(door, batch))["request_counts"]["succeeded"] == 1
    row = await narrow.row(job_id)
    assert row.params is not None
    assert json.loads(bytes(row.params)) == large(0)["params"]
    assert row.request_hash == request_hash(row.params)


def test_a_reference_keeps_what_claims_look_at() -> None:
    """The lane of fast calls, and the tokens that are reserved."""
    body = json.dumps({"model": "m", "max_tokens": 9, "speed": "fast", "messages": []}).encode()
    reference = reference_to("b", 7, body)
    assert json.loads(reference) == {
        "$stored": {"batch": "b", "seq": 7, "bytes": len(body)},
        "model": "m",
        "max_tokens": 9,
        "speed": "fast",
    }
    found = stored_body(reference, "b")
    assert found is not None
    assert (found.batch, found.seq, found.bytes) == ("b", 7, len(body))
    assert stored_body(reference, "other") is stored_body(reference, None) is None
    assert stored_body(body, "b") is stored_body(b'{"$stored":7}', "b") is None
