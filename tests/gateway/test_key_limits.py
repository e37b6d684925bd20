"""The limits of a key: betas, requests a minute, requests at one time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from nightmill.queue import keys
from nightmill.records.key_limits import Budget, KeyLimits
from nightmill.store.access_keys import AccessKeys
from nightmill_gateway.access import key_use, spending
from nightmill_gateway.access.key import id_of
from nightmill_gateway.access.used import read_used
from tests.gateway.door import opened
from tests.gateway.messages.test_messages import body
from tests.rig import until

if TYPE_CHECKING:
    from tests.gateway.door import Door
    from tests.rig import Rig

PATH = "/v1/nothing"
"""No route: who gets in gets a 404."""
MESSAGES = "/v1/messages"
CREATES = {
    MESSAGES: body(),
    "/v1/messages/batches": {"requests": [{"custom_id": "a", "params": body()}]},
    "/v1/jobs": {"params": body()},
}
"""Route -> what it takes; each may ask for betas."""


@pytest.mark.parametrize("path", CREATES)
async def test_only_the_betas_of_the_key_are_taken(door: Door, path: str) -> None:
    """A beta may cost more, or send data elsewhere: who may use it is the operator's decision."""
    key = await door.key_of(limits=KeyLimits(betas=("b-1", "b-2")))
    for given in ("x-9", "b-1, x-9"):
        headers = {"anthropic-beta": given}
        answer = await door("POST", path, key=key, json=CREATES[path], headers=headers)
        assert answer.error == (403, "permission_error")
        assert answer.message == "anthropic-beta: given x-9; allowed: b-1, b-2"
    none = await door.key_of(limits=KeyLimits(betas=()))
    answer = await door(
        "POST", path, key=none, json=CREATES[path], headers={"anthropic-beta": "b-1"}
    )
    assert "allowed: none with this key" in answer.message


async def test_an_allowed_beta_and_a_key_without_the_limit(door: Door) -> None:
    """Both betas of two headers count, as HTTP joins them."""
    for limits in (KeyLimits(betas=("b-1", "b-2")), KeyLimits()):
        key = await door.key_of(limits=limits)
        given = {"anthropic-beta": "b-2,b-1"}
        answer = await door("POST", "/v1/jobs", key=key, json=CREATES["/v1/jobs"], headers=given)
        assert answer.status == 202


async def test_a_beta_cannot_come_in_the_body(door: Door) -> None:
    """The body would be a way around the key's limit."""
    key = await door.key_of(limits=KeyLimits(betas=()))
    for field in ("anthropic_beta", "betas"):
        given = {**body(), field: ["x-9"]}
        answer = await door("POST", "/v1/jobs", key=key, json={"params": given})
        assert answer.error[0] in (400, 403), field


async def test_requests_a_minute_are_counted_over_all_gateways(rig: Rig, door: Door) -> None:
    """Behind a load balancer, each request may reach another gateway."""
    key = await door.key_of(limits=KeyLimits(rpm=4))
    async with opened(rig.settings) as second:
        for left, way in ((3, door), (2, second), (1, door), (0, second)):
            answer = await way("GET", PATH, key=key)
            assert answer.status == 404
            assert answer.headers["anthropic-ratelimit-requests-limit"] == "4"
            assert answer.headers["anthropic-ratelimit-requests-remaining"] == str(left)
        for way in (door, second):
            answer = await way("GET", PATH, key=key)
            assert answer.error == (429, "rate_limit_error")
            assert "rpm: 4 requests a minute" in answer.message
            assert 1 <= int(answer.headers["retry-after"]) <= 15, "one comes back every 15 s"
            assert answer.headers["anthropic-ratelimit-requests-remaining"] == "0"
            assert answer.headers["anthropic-ratelimit-requests-reset"].endswith("Z")
    assert (await door("GET", PATH)).status == 404, "another key has its own limit"
    assert "anthropic-ratelimit-requests-limit" not in (await door("GET", PATH)).headers


async def test_retry_after_is_a_time_that_helps(rig: Rig, door: Door) -> None:
    """The SDKs wait exactly so long: one second less would be one more refusal."""
    key = await door.key_of(limits=KeyLimits(rpm=2))
    name = keys.REQUESTS + (id_of(key) or "")
    for _ in range(2):
        await door("GET", PATH, key=key)
    refused = await door("GET", PATH, key=key)
    waited_ms = int(refused.headers["retry-after"]) * 1000
    at = int(await rig.redis.execute_command("HGET", name, "at"))
    await rig.redis.execute_command("HSET", name, "at", at - waited_ms)  # as if the time had passed
    assert (await door("GET", PATH, key=key)).status == 404
    assert (await door("GET", PATH, key=key)).status == 429


async def test_many_clients_at_once_get_exactly_their_number(rig: Rig, door: Door) -> None:
    """Two gateways must not both give the last request away."""
    key = await door.key_of(limits=KeyLimits(rpm=20))
    async with opened(rig.settings) as second:
        answers = await asyncio.gather(
            *(way("GET", PATH, key=key) for _ in range(30) for way in (door, second))
        )
    assert sorted(answer.status for answer in answers) == [404] * 20 + [429] * 40


async def test_requests_at_one_time(rig: Rig, door: Door) -> None:
    """Two clients wait, a third is refused; one that has its answer makes room."""
    key = await door.key_of(limits=KeyLimits(concurrency=2))
    name = f"{keys.REQUESTS}{id_of(key)}:open"
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(door("POST", MESSAGES, key=key, json=body())) for _ in "ab"]
        await until(lambda: _count(rig, name, 2))
        answer = await door("GET", PATH, key=key)
        assert answer.error == (429, "rate_limit_error")
        assert "concurrency: 2 requests at one time" in answer.message
        assert int(answer.headers["retry-after"]) >= 1
        async with rig.working():
            assert [(await each).status for each in waiting] == [200, 200]
    assert (await door("GET", PATH, key=key)).status == 404


async def _counted(rig: Rig, batch: str, counts: dict[str, int]) -> bool:
    return {k: v for k, v in (await rig.store.counts(batch)).items() if v} == counts


async def _gone(rig: Rig, *names: str) -> bool:
    return bool(await rig.redis.exists(*names) == 0)


async def _count(rig: Rig, name: str, number: int) -> bool:
    return bool(await rig.redis.zcard(name) == number)


async def test_a_client_that_hangs_up_makes_room(rig: Rig, door: Door) -> None:
    """Otherwise a flaky client would lock its own key."""
    key = await door.key_of(limits=KeyLimits(concurrency=1))
    name = f"{keys.REQUESTS}{id_of(key)}:open"
    waiting = asyncio.create_task(door("POST", MESSAGES, key=key, json=body()))
    await until(lambda: _count(rig, name, 1))
    waiting.cancel()
    await until(lambda: _count(rig, name, 0))
    assert (await door("GET", PATH, key=key)).status == 404


async def test_a_killed_gateway_frees_its_requests_a_minute_later(
    rig: Rig, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its requests are renewed while it lives, and end with their lease after that."""
    key = await door.key_of(limits=KeyLimits(concurrency=1))
    name = f"{keys.REQUESTS}{id_of(key)}:open"
    await rig.redis.zadd(name, {"req_of_a_killed_gateway": 1})
    assert (await door("GET", PATH, key=key)).status == 404
    monkeypatch.setattr(key_use, "RENEW_S", 0.01)
    async with opened(rig.settings) as second:
        waiting = asyncio.create_task(second("POST", MESSAGES, key=key, json=body()))
        await until(lambda: _count(rig, name, 1))
        (member,) = await rig.redis.zrange(name, 0, -1)
        first = float(await rig.redis.zscore(name, member))

        async def renewed() -> bool:
            return float(await rig.redis.zscore(name, member)) > first

        await until(renewed)
        waiting.cancel()


@pytest.mark.parametrize("stored", ["nan", "1e400", "-5", "x", ""])
async def test_odd_values_in_redis_lock_no_key(rig: Rig, door: Door, stored: str) -> None:
    """Other programs may write there."""
    key = await door.key_of(limits=KeyLimits(rpm=5, concurrency=2))
    name = keys.REQUESTS + (id_of(key) or "")
    fields = ("level", stored, "at", stored, "mean_ms", stored)
    await rig.redis.execute_command("HSET", name, *fields)
    assert (await door("GET", PATH, key=key)).status == 404


@pytest.mark.parametrize("path", CREATES)
async def test_a_spent_budget_takes_no_new_requests(rig: Rig, door: Door, path: str) -> None:
    """402, which no SDK sends again; it says who, how much, and until when."""
    limits = KeyLimits(budget=Budget(nanodollars=1_000, period="day"))
    key, other = await door.key_of(limits=limits), await door.key_of()
    async with rig.working():
        answer = await door("POST", MESSAGES, key=key, json=body())
        assert answer.status == 200, "the first call always may go: it shows what one costs"
        answer = await door("POST", path, key=key, json=CREATES[path])
        assert answer.error == (402, "billing_error")
        assert f"the budget of the key {id_of(key)}: $" in answer.message
        assert "of $0.000001/day is spent" in answer.message
        assert "T00:00:00.000Z. Raise it" in answer.message
        assert f"nightmill keys adjust {id_of(key)} --budget-usd AMOUNT/day" in answer.message
        assert (await door("GET", "/v1/messages/batches", key=key)).status == 200, "it may read"
        assert (await door("POST", MESSAGES, key=other, json=body())).status == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_waits_is_told_when_the_budget_ends(
    rig: Rig, door: Door, monkeypatch: pytest.MonkeyPatch, stream: object
) -> None:
    """It would wait until MAX_WAIT_S for a call that is not made."""
    monkeypatch.setattr(spending, "EVERY_S", 0.01)
    key = await door.key_of(limits=KeyLimits(budget=Budget(nanodollars=1_000, period="day")))
    name = keys.queue_of("default/messages", body()["model"])
    async with asyncio.TaskGroup() as group:
        given = [body(str(n), stream=stream) for n in range(4)]
        waiting = [group.create_task(door("POST", MESSAGES, key=key, json=each)) for each in given]
        await until(lambda: _count(rig, name, 4))
        async with rig.working():
            answers = [await each for each in waiting]
            counts = {"succeeded": 1, "cancelled": 3}  # none stays queued until the next day
            await until(lambda: _counted(rig, "default/messages", counts))
            await until(lambda: _gone(rig, name, keys.ABORTS))
    refused = [answer for answer in answers if b"billing_error" in answer.body]
    assert [answer.status for answer in refused] == [200 if stream else 402] * 3
    assert all(b"--budget-usd AMOUNT/day" in answer.body for answer in refused)
    assert rig.calls() == 1


async def test_a_raised_budget_is_taken_at_once(rig: Rig, door: Door) -> None:
    """The operator's answer to a 402."""
    limits = KeyLimits(budget=Budget(nanodollars=1_000, period="month"))
    key = await door.key_of(limits=limits)
    async with rig.working():
        assert (await door("POST", MESSAGES, key=key, json=body())).status == 200
        assert (await door("POST", MESSAGES, key=key, json=body())).status == 402
        more = KeyLimits(budget=Budget(nanodollars=10**12, period="month"))
        assert await AccessKeys(door.services.store).change(id_of(key) or "", more, None)
        assert (await door("POST", MESSAGES, key=key, json=body())).status == 200
        used = await read_used(rig.redis, id_of(key) or "", more)
    assert used.nanodollars > 0


async def test_a_batch_of_the_key_is_paid_for_by_it(rig: Rig, door: Door) -> None:
    """Workers feed it, and know its key from the store."""
    limits = KeyLimits(budget=Budget(nanodollars=10**12, period="hour"))
    key = await door.key_of(limits=limits)
    requests = [{"custom_id": f"c{n}", "params": body()} for n in range(3)]
    made = await door("POST", "/v1/messages/batches", key=key, json={"requests": requests})
    async with rig.working():

        async def ended() -> bool:
            found = await door("GET", f"/v1/messages/batches/{made.json['id']}", key=key)
            return bool(found.json["processing_status"] == "ended")

        await until(ended)
    spent = await rig.producer.batch(made.json["id"]).counts()
    used = await read_used(rig.redis, id_of(key) or "", limits)
    assert used.nanodollars == spent.nanodollars > 0
