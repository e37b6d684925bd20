"""Requests that are sent again: one call under an Idempotency-Key, and one for a lost answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from nightmill.queue import keys
from nightmill.records.state import JobState
from tests.gateway.door import opened
from tests.gateway.messages.test_events import read
from tests.gateway.messages.test_messages import BATCH, PATH, body, hung_up, rows
from tests.rig import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.gateway.door import Door
    from tests.rig import Rig

KEY = {"idempotency-key": "order-7"}
AGAIN = {"x-stainless-retry-count": "1"}
JOBS = "/v1/jobs"


def job(text: str = "hello", **beside: object) -> dict[str, Any]:
    """Return the body of a new job."""
    return {"params": body(text), **beside}


@pytest.mark.parametrize("stream", [False, True])
async def test_one_key_is_one_call(rig: Rig, door: Door, stream: object) -> None:
    """Ten at once, at two gateways, streamed or not, and one afterwards."""
    rig.sim.configure(latency_s=0.3)
    sent = body(stream=bool(stream))
    async with rig.working(), opened(rig.settings) as second:
        doors = [door, second] * 5
        asking = [each("POST", PATH, json=sent, headers=KEY, key=door.key) for each in doors]
        answers = [*await asyncio.gather(*asking)]
        answers.append(await second("POST", PATH, json=sent, headers=KEY, key=door.key))
    assert {answer.status for answer in answers} == {200}
    if stream:
        ends = [read(answer.body)[-1].name for answer in answers]
        assert set(ends) == {"message_stop"}
    else:
        assert len({answer.body for answer in answers}) == 1
    assert rig.calls() == 1


@pytest.mark.parametrize(("path", "make"), [(PATH, body), (JOBS, job)])
async def test_another_body_under_a_key_is_a_409(
    rig: Rig, door: Door, path: str, make: Callable[..., dict[str, Any]]
) -> None:
    """It would be answered with what it did not ask. Another tenant's key is another."""
    async with rig.working():
        assert (await door("POST", path, json=make(), headers=KEY)).status in {200, 202}
        refused = await door("POST", path, json=make("other"), headers=KEY)
        assert refused.error == (409, "invalid_request_error")
        assert "Idempotency-Key" in refused.message
        key = await door.key_of(tenant="other")
        assert (await door("POST", path, json=make("other"), headers=KEY, key=key)).status < 300


async def test_a_key_names_one_job(rig: Rig, door: Door) -> None:
    """A job has no end to wait for: the second create shows the first one's job."""
    first = await door("POST", JOBS, json=job(), headers=KEY)
    second = await door("POST", JOBS, json=job(), headers=KEY)
    assert (first.status, second.status) == (202, 202)
    assert first.json["id"] == second.json["id"]
    await rig.work_off()
    assert (await door("POST", JOBS, json=job(), headers=KEY)).json["state"] == "succeeded"
    assert (await door("POST", JOBS, json=job())).json["id"] != first.json["id"]


async def test_a_client_that_hangs_up_leaves_the_job_to_those_who_wait(
    rig: Rig, door: Door
) -> None:
    """Both wait for one job; it is cancelled when the last of them leaves."""
    first, second = (
        asyncio.create_task(door("POST", PATH, json=body(), headers=KEY)) for _ in range(2)
    )

    async def listed() -> bool:
        (name,) = await rig.redis.execute_command("KEYS", "nightmill:unread:*") or [b""]
        return bool(name) and await rig.redis.execute_command("LLEN", name) == 2

    await until(listed)
    first.cancel()
    await asyncio.wait([first])
    async with rig.working():
        assert (await second).status == 200
    assert rig.calls() == 1
    assert await rows(rig) == {JobState.SUCCEEDED: 1}


async def test_a_job_that_was_cancelled_is_made_again_under_its_key(rig: Rig, door: Door) -> None:
    """The client left before its job was called, and asks again later."""
    await hung_up(rig, door, KEY)
    assert await rows(rig) == {JobState.CANCELLED: 1}
    async with rig.working():
        assert (await door("POST", PATH, json=body(), headers=KEY)).status == 200
    assert rig.calls() == 1


async def test_the_call_of_a_dead_gateway_is_taken_over(rig: Rig, door: Door) -> None:
    """A process that was killed noted nothing; Redis has ended its subscription."""
    rig.sim.configure(latency_s=1)
    async with rig.working():
        asking = asyncio.create_task(door("POST", PATH, json=body()))
        await rig.sim.until(lambda: rig.sim.in_flight == 1)
        async with opened(rig.settings) as second:
            for one in await rig.redis.execute_command("PUBSUB", "CHANNELS", "nightmill:gateway:*"):
                assert one.decode().startswith("nightmill:gateway:")
            (entry,) = await rig.redis.execute_command("KEYS", "nightmill:unread:*")
            waiting = (await rig.redis.execute_command("LRANGE", entry, 0, -1))[0].decode()
            name = waiting.partition(" ")[2]
            await rig.redis.execute_command("LPUSH", entry, f"dead {name}")
            again = await second("POST", PATH, json=body(), headers=AGAIN, key=door.key)
        assert again.status == 200
        assert (await asking).status == 200
    assert rig.calls() == 1


async def test_ten_samples_of_one_prompt_stay_ten(rig: Rig, door: Door) -> None:
    """A retry takes over no job whose client still waits."""
    rig.sim.configure(latency_s=0.3)
    async with rig.working():
        asking = [asyncio.create_task(door("POST", PATH, json=body())) for _ in range(9)]
        await rig.sim.until(lambda: rig.sim.in_flight == 9)
        assert (await door("POST", PATH, json=body(), headers=AGAIN)).status == 200
        await asyncio.gather(*asking)
    assert rig.calls() == 10


async def test_all_of_many_clients_that_hang_up_at_once_are_cancelled(rig: Rig, door: Door) -> None:
    """A service that is restarted drops all its connections in one moment."""
    count = 300
    asking = [
        asyncio.create_task(door("POST", PATH, json=body(f"client {number}")))
        for number in range(count)
    ]

    async def queued() -> bool:
        return (await door.services.batches.counts(BATCH)).queued == count

    door.session.connector._limit = 0  # type: ignore[union-attr]
    await until(queued)
    for each in asking:
        each.cancel()
    await asyncio.wait(asking)

    async def withdrawn() -> bool:
        return bool(await rig.redis.execute_command("ZCARD", "arq:abort") == count)

    await until(withdrawn)
    await rig.work_off()
    assert await rows(rig) == {JobState.CANCELLED: count}
    assert rig.calls() == 0


def test_a_lost_answer_is_kept_for_ten_minutes_and_a_key_for_a_day() -> None:
    """The times that docs/gateway.md names."""
    assert keys.UNREAD_TTL_MS == 600_000
    assert keys.NAMED_TTL_MS == 86_400_000
