"""Requests that are sent again while their key or the queue takes no new ones."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from nightmill.records.key_limits import Budget, KeyLimits
from nightmill.records.state import JobState
from tests.gateway.door import opened
from tests.gateway.messages.test_messages import BATCH, PATH, body, rows
from tests.rig import hello, until

if TYPE_CHECKING:
    from tests.gateway.door import Answer, Door
    from tests.rig import Rig

BATCHES = "/v1/messages/batches"
JOBS = "/v1/jobs"
CREATES: dict[str, dict[str, Any]] = {
    PATH: body(),
    BATCHES: {"requests": [{"custom_id": "a", "params": body()}]},
    JOBS: {"params": body()},
}
SENT = ({"idempotency-key": "order-7"}, {"x-stainless-retry-count": "1"})


@pytest.mark.parametrize("path", CREATES)
@pytest.mark.parametrize("headers", SENT)
async def test_a_full_queue_refuses_each_sending(
    rig: Rig, door: Door, path: str, headers: dict[str, str]
) -> None:
    """The SDKs send a 529 again: the second sending must not get in where the first did not."""
    await rig.producer.enqueue_many([hello() for _ in range(3)], batch="night")
    settings = rig.settings.model_copy(update={"max_queued": 3})
    async with opened(settings) as full, asyncio.timeout(20):
        for _ in range(3):
            answer = await full("POST", path, json=CREATES[path], headers=headers, key=door.key)
            assert answer.error == (529, "overloaded_error")
    assert (await door("GET", BATCHES)).json["data"] == []
    assert (await door.services.batches.counts(BATCH)).queued == 0


@pytest.mark.parametrize("path", CREATES)
async def test_a_spent_budget_refuses_each_sending(rig: Rig, door: Door, path: str) -> None:
    """A service that sends a refused request again, under its own key, pays nothing either."""
    key = await door.key_of(limits=KeyLimits(budget=Budget(nanodollars=1_000, period="day")))
    async with rig.working(), asyncio.timeout(20):
        assert (await door("POST", PATH, key=key, json=body("first"))).status == 200
        for _ in range(3):
            answer = await door("POST", path, key=key, json=CREATES[path], headers=SENT[0])
            assert answer.error == (402, "billing_error")
    assert rig.calls() == 1


@pytest.mark.parametrize("path", [JOBS, BATCHES])
async def test_what_was_accepted_is_found_in_a_full_queue(rig: Rig, door: Door, path: str) -> None:
    """A client whose answer was lost would take a refusal for "nothing was accepted"."""
    settings = rig.settings.model_copy(update={"max_queued": 1})
    async with opened(settings) as full:

        async def send() -> Answer:
            return await full("POST", path, json=CREATES[path], headers=SENT[0], key=door.key)

        first = await send()
        await rig.producer.enqueue_many([hello() for _ in range(3)], batch="night")
        again = await send()
        assert (first.status, again.status) in {(202, 202), (200, 200)}
        assert again.json["id"] == first.json["id"]


async def test_a_job_with_an_id_is_looked_at_in_a_full_queue(rig: Rig, door: Door) -> None:
    """Its create is how a client asks for it; so is one with a spent budget."""
    sent = {"id": "report-7", "params": body()}
    settings = rig.settings.model_copy(update={"max_queued": 1})
    async with opened(settings) as full:
        assert (await full("POST", JOBS, json=sent, key=door.key)).status == 202
        assert (await full("POST", JOBS, json=sent, key=door.key)).status == 202
        other = {**sent, "params": body("other")}
        assert (await full("POST", JOBS, json=other, key=door.key)).status == 409
        other["id"] = "report-8"
        assert (await full("POST", JOBS, json=other, key=door.key)).status == 529
        await rig.work_off()
        await rig.producer.enqueue_many([hello() for _ in range(3)], batch="night")
        found = await full("POST", JOBS, json=sent, key=door.key)
        assert (found.status, found.json["state"]) == (200, "succeeded")


async def test_a_job_that_is_being_cancelled_is_called_for_its_second_sending(
    rig: Rig, door: Door
) -> None:
    """The client hung up, and asks again before a worker has come to its job."""
    asking = asyncio.create_task(door("POST", PATH, json=body(), headers=SENT[0]))

    async def queued() -> bool:
        return (await door.services.batches.counts(BATCH)).queued == 1

    async def withdrawn() -> bool:
        return bool(await rig.redis.execute_command("ZCARD", "arq:abort"))

    await until(queued)
    asking.cancel()
    await until(withdrawn)
    second = asyncio.create_task(door("POST", PATH, json=body(), headers=SENT[0]))

    async def waits() -> bool:
        return not await withdrawn()

    await until(waits)
    async with rig.working():
        assert (await second).status == 200
    assert await rows(rig) == {JobState.SUCCEEDED: 1}
