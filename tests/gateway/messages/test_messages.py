"""POST /v1/messages: a durable job, and a client that waits for its Message."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from nightmill.records.state import JobState
from nightmill_gateway.messages import handlers
from nightmill_gateway.stopping import STOPPING
from tests.gateway.door import opened
from tests.gateway.messages.test_events import read
from tests.rig import until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.gateway.door import Door
    from tests.rig import Rig

PATH = "/v1/messages"
BATCH = "default/messages"


def body(text: str = "hello", **changed: object) -> dict[str, Any]:
    """Return a Messages request."""
    messages = [{"role": "user", "content": text}]
    return {"model": "claude-opus-4-6", "max_tokens": 20, "messages": messages, **changed}


async def rows(rig: Rig) -> dict[JobState, int]:
    """Return how the jobs of the clients ended."""
    found = await rig.store.counts(BATCH)
    return {state: number for state, number in found.items() if number}


async def test_a_client_gets_its_message(rig: Rig, door: Door) -> None:
    """The answer is the endpoint's own, byte for byte, and has its row."""
    headers = {"anthropic-version": "2026-10-21", "anthropic-beta": "a-1"}
    async with rig.working():
        answer = await door("POST", PATH, json=body(), headers=headers)
    assert answer.status == 200
    assert answer.json["type"] == "message"
    assert answer.headers["request-id"].startswith("req_")
    (row,) = [row async for row in rig.store.stream(BATCH)]
    assert row.message is not None
    assert bytes(row.message) == answer.body
    assert (row.api.anthropic_version, row.api.anthropic_beta) == ("2026-10-21", ("a-1",))


async def test_a_large_request_is_called_whole(rig: Rig, door: Door) -> None:
    """A service that sends images of several MB needs no setting: the API takes 32 MB."""
    async with rig.working():
        answer = await door("POST", PATH, json=body(system="x" * (5 << 20)))
        job = {"params": body(system="x" * (3 << 20)), "wait": 30}
        other = await door("POST", "/v1/jobs", json=job)
    assert answer.status == other.status == 200, other.body
    assert other.json["state"] == "succeeded"
    (row,) = [row async for row in rig.store.stream(BATCH)]
    assert row.params is not None
    assert len(bytes(row.params)) > 5 << 20


async def test_its_jobs_come_before_those_of_batches(rig: Rig, door: Door) -> None:
    """A client waits; a night's batch does not. A person's own limit stays."""
    async with rig.working():
        await door("POST", PATH, json=body())
    batches = rig.producer.batch(BATCH)
    assert (await batches.counts()).limits.weight == 1000
    await batches.limit(weight=7)
    async with opened(rig.settings) as second, rig.working():
        await second("POST", PATH, json=body("again"))
    assert (await batches.counts()).limits.weight == 7


@pytest.mark.parametrize(
    ("down", "error"),
    [(400, (400, "invalid_request_error")), (404, (404, "not_found_error"))],
)
async def test_an_error_of_the_endpoint_is_passed_on(
    rig: Rig, door: Door, down: int, error: tuple[int, str]
) -> None:
    """The client handles it as it handles the endpoint's own."""
    rig.sim.configure(down=down)
    async with rig.working():
        assert (await door("POST", PATH, json=body())).error == error


async def test_a_stream_is_told_at_once_and_ends_with_the_message(
    rig: Rig, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pings while the job waits, then the events of the whole Message."""
    monkeypatch.setattr(handlers, "PING_S", 0.02)
    rig.sim.configure(latency_s=0.2)
    async with rig.working():
        answer = await door("POST", PATH, json=body(stream=True))
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    names = [event.name for event in read(answer.body)]
    waited = names.index("message_start")
    assert set(names[:waited]) == {"ping"}
    assert waited >= 2
    assert names[-1] == "message_stop"


async def test_a_stream_ends_with_its_error(rig: Rig, door: Door) -> None:
    """The SDKs raise it as they raise an error of the endpoint's stream."""
    rig.sim.configure(down=400)
    async with rig.working():
        answer = await door("POST", PATH, json=body(stream=True))
    last = read(answer.body)[-1]
    assert last.name == "error"
    assert json.loads(last.data)["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_job_that_is_not_called_in_time_is_never_called(rig: Rig, stream: object) -> None:
    """The client has given up or asks again: a later call would be paid for nobody."""
    settings = rig.settings.model_copy(update={"max_wait_s": 1})
    async with opened(settings) as door:
        answer = await door("POST", PATH, json=body(stream=bool(stream)))
        if stream:
            assert read(answer.body)[-1].name == "error"
            assert b"overloaded_error" in answer.body
        else:
            assert answer.error == (529, "overloaded_error")
            assert int(answer.headers["retry-after"]) > 0
    await rig.work_off()
    await until(lambda: rows(rig))
    assert sum((await rows(rig)).values()) == 1
    assert rig.calls() == 0


async def hung_up(rig: Rig, door: Door, headers: Mapping[str, str] | None = None) -> None:
    """Ask for a Message, hang up before a worker runs, and let the job be cancelled."""
    asking = asyncio.create_task(door("POST", PATH, json=body(), headers=headers))

    async def queued() -> bool:
        return (await door.services.batches.counts(BATCH)).queued == 1

    await until(queued)
    asking.cancel()
    await asyncio.wait([asking])

    async def withdrawn() -> bool:
        return bool(await rig.redis.execute_command("ZCARD", "arq:abort"))

    await until(withdrawn)
    await rig.work_off()


async def test_a_client_that_hangs_up_is_not_called_for(rig: Rig, door: Door) -> None:
    """Its job had not started, so it costs nothing."""
    await hung_up(rig, door)
    assert await rows(rig) == {JobState.CANCELLED: 1}
    assert rig.calls() == 0


async def test_a_call_in_flight_is_stored_when_its_client_hangs_up(rig: Rig, door: Door) -> None:
    """It is paid for, so its answer is kept."""
    rig.sim.configure(latency_s=0.3)
    async with rig.working():
        asking = asyncio.create_task(door("POST", PATH, json=body()))
        await rig.sim.until(lambda: rig.sim.in_flight == 1)
        asking.cancel()
        await asyncio.wait([asking])
        await until(lambda: rows(rig))
    assert await rows(rig) == {JobState.SUCCEEDED: 1}


async def test_a_retry_takes_over_the_call_of_a_lost_answer(rig: Rig, door: Door) -> None:
    """The SDKs send it again by themselves; the first call is paid for and stored."""
    rig.sim.configure(latency_s=0.3)
    again = {"x-stainless-retry-count": "1"}
    async with rig.working():
        asking = asyncio.create_task(door("POST", PATH, json=body()))
        await rig.sim.until(lambda: rig.sim.in_flight == 1)
        asking.cancel()
        await asyncio.wait([asking])
        await until(lambda: rig.redis.execute_command("KEYS", "nightmill:unread:*"))
        key = await door.key_of(tenant="other")
        for other in ({"key": key}, {"json": body("other")}):
            sent: dict[str, Any] = {"json": body(), "headers": again, **other}
            assert (await door("POST", PATH, **sent)).status == 200
        assert rig.calls() == 3, "another tenant's, or another request, is new"
        answer = await door("POST", PATH, json=body(), headers=again)
        assert answer.status == 200
        assert rig.calls() == 3
        assert (await door("POST", PATH, json=body(), headers=again)).status == 200
        assert rig.calls() == 4, "each is taken over once"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_gateway_that_stops_tells_those_who_wait(rig: Rig, stream: object) -> None:
    """A cut connection says nothing; and the call that runs is there for the retry."""
    rig.sim.configure(latency_s=2)
    settings = rig.settings.model_copy(update={"grace_s": 1})
    async with rig.working():
        async with opened(settings) as door:
            asking = asyncio.create_task(door("POST", PATH, json=body(stream=bool(stream))))
            await rig.sim.until(lambda: rig.sim.in_flight == 1)
            finishing = asyncio.create_task(door.app[STOPPING].finish(1))
            answer = await asking
            await finishing
        assert b"this gateway stops: send it again" in answer.body
        assert b"overloaded_error" in answer.body
        async with opened(settings) as second:
            again = {"x-stainless-retry-count": "1"}
            sent = body(stream=bool(stream))
            retried = await second("POST", PATH, json=sent, headers=again, key=door.key)
    assert retried.status == 200
    assert b"this gateway stops" not in retried.body
    assert rig.calls() == 1


async def test_clients_share_no_batch_with_other_tenants(rig: Rig, door: Door) -> None:
    """Each tenant's jobs are a batch of its own, so weights and budgets hold for each."""
    key = await door.key_of(tenant="other")
    async with rig.working():
        await door("POST", PATH, json=body(), key=key)
    assert await rows(rig) == {}
    assert (await rig.store.counts("other/messages"))[JobState.SUCCEEDED] == 1


@pytest.mark.parametrize(
    ("given", "status", "problem"),
    [
        ([], 400, "allowed: an object"),
        ({}, 400, "model: missing"),
        (body(max_tokens=0), 400, "max_tokens: given 0"),
        (body(stream="yes"), 400, "stream"),
        (body(system="x" * (32 << 20)), 413, "bytes"),
    ],
)
async def test_a_fault_names_its_field(
    door: Door, given: object, status: int, problem: str
) -> None:
    """Before anything is enqueued."""
    answer = await door("POST", PATH, json=given)
    assert answer.status == status
    assert problem in answer.message
    assert (await door.services.batches.counts(BATCH)).accepted == 0


async def test_a_cancelled_batch_of_messages_is_a_409(rig: Rig, door: Door) -> None:
    """A person has ended it: the client learns that, and not of a defect."""
    await door.services.batches.make_known(BATCH)
    await door.services.batches.cancel(BATCH)
    assert (await door("POST", PATH, json=body())).error == (409, "invalid_request_error")
    assert rig.calls() == 0
