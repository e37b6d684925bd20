"""Single jobs over HTTP, for services that poll."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from nightmill_gateway.access.names import inner, is_job, is_name, outer
from tests.rig import until

if TYPE_CHECKING:
    from tests.gateway.door import Door
    from tests.rig import Rig

PATH = "/v1/jobs"


def params(text: str = "hello", **changed: object) -> dict[str, Any]:
    """Return a Messages request."""
    messages = [{"role": "user", "content": text}]
    return {"model": "claude-opus-4-6", "max_tokens": 20, "messages": messages, **changed}


async def test_a_job_is_waited_for(rig: Rig, door: Door) -> None:
    """One request is enough for a service that can wait a minute."""
    async with rig.working():
        answer = await door("POST", PATH, json={"params": params(), "wait": 30})
    assert answer.status == 200
    job = answer.json
    assert (job["type"], job["state"]) == ("job", "succeeded")
    assert job["result"]["type"] == "succeeded"
    assert job["result"]["message"]["type"] == "message"
    assert [call["outcome"] for call in job["attempts"]] == ["succeeded"]
    assert job["ended_at"] is not None
    found = await door("GET", f"{PATH}/{job['id']}")
    assert (found.status, found.json) == (200, job)


async def test_a_job_is_polled_for(rig: Rig, door: Door) -> None:
    """Its state and its calls so far are there before it ends."""
    made = await door("POST", PATH, json={"params": params(), "id": "a"})
    assert made.status == 202
    assert (made.json["id"], made.json["state"], made.json["result"]) == ("a", "queued", None)
    rig.sim.configure(down=500)
    async with rig.working(outage_s=60):
        job: dict[str, Any] = {}

        async def called() -> bool:
            nonlocal job
            job = (await door("GET", f"{PATH}/a")).json
            return bool(job["attempts"])

        await until(called)
        assert job["state"] in {"retrying", "snoozed", "in_flight"}
        assert job["attempts"][0]["status"] == 500
        rig.sim.configure(down=None)
        again = await door("POST", PATH, json={"params": params(), "id": "a", "wait": 30})
    assert again.json["state"] == "succeeded"
    assert len(again.json["attempts"]) >= 2


async def test_a_wait_ends_in_time(door: Door) -> None:
    """Nobody works: the answer says that the job is still queued."""
    answer = await door("POST", PATH, json={"params": params(), "wait": 0.05})
    assert (answer.status, answer.json["state"]) == (202, "queued")


async def test_the_same_job_twice_is_one_call(rig: Rig, door: Door) -> None:
    """A client that lost the answer sends its request again."""
    body = {"params": params(), "id": "a", "batch": "night"}
    first = await door("POST", PATH, json=body)
    second = await door("POST", PATH, json=body)
    assert first.json == second.json
    assert first.json["id"] == "night:a"
    await rig.work_off()
    third = await door("POST", PATH, json=body)
    assert (third.status, third.json["state"]) == (200, "succeeded")
    assert rig.calls() == 1
    assert (await door("GET", f"{PATH}/night:a")).json == third.json
    counts = await door.services.batches.counts("default/night")
    assert counts.succeeded == 1


async def test_another_request_under_an_id_is_refused(rig: Rig, door: Door) -> None:
    """The client would get the answer to a question that it did not ask."""
    await door("POST", PATH, json={"params": params(), "id": "a"})
    other = {"params": params("other"), "id": "a"}
    assert (await door("POST", PATH, json=other)).error == (409, "invalid_request_error")
    await rig.work_off()
    assert (await door("POST", PATH, json=other)).error == (409, "invalid_request_error")
    assert rig.calls() == 1


async def test_many_wait_at_once(rig: Rig, door: Door) -> None:
    """All of them are looked for together."""
    async with rig.working():
        bodies = [{"params": params(f"{number}"), "wait": 30} for number in range(50)]
        answers = await asyncio.gather(*(door("POST", PATH, json=body) for body in bodies))
    assert {answer.json["state"] for answer in answers} == {"succeeded"}
    assert len({answer.json["id"] for answer in answers}) == 50


async def test_a_failed_job_says_why(rig: Rig, door: Door) -> None:
    """Its error is in the shape of a batch's result."""
    rig.sim.configure(down=400)
    async with rig.working():
        answer = await door("POST", PATH, json={"params": params(), "wait": 30})
    assert answer.json["state"] == "failed"
    assert answer.json["result"]["error"]["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("body", "status", "problem"),
    [
        ([], 400, "given []"),
        ({}, 400, "params: missing"),
        ({"params": {}}, 400, "params.model: missing"),
        ({"params": params(max_tokens=0)}, 400, "params.max_tokens"),
        ({"params": params(stream=True)}, 400, "params.stream"),
        ({"params": params(), "id": ""}, 400, "id: given ''"),
        ({"params": params(), "id": "a:b"}, 400, "id: given 'a:b'"),
        ({"params": params(), "id": "../b"}, 400, "id"),
        ({"params": params(), "batch": "a/b"}, 400, "batch"),
        ({"params": params(), "batch": "messages"}, 400, "batch: given 'messages'"),
        ({"params": params(), "batch": "jobs"}, 400, "other than messages and jobs"),
        ({"params": params(), "wait": 61}, 400, "wait: given 61"),
        ({"params": params(), "wait": True}, 400, "wait"),
        ({"params": params(), "x": 1}, 400, "x: given 1"),
        ({"params": params(system="x" * (32 << 20))}, 413, "bytes"),
    ],
)
async def test_a_fault_names_its_field(door: Door, body: object, status: int, problem: str) -> None:
    """Nothing is enqueued then."""
    answer = await door("POST", PATH, json=body)
    assert answer.status == status, answer.body
    assert problem in answer.message
    assert (await door.services.batches.counts("")).accepted == 0


async def test_what_is_no_json(door: Door) -> None:
    """Also with the right content type."""
    headers = {"content-type": "application/json"}
    for data in (b"", b"{", b"\xff"):
        assert (await door("POST", PATH, data=data, headers=headers)).status == 400


async def test_no_tenant_sees_anothers_job(rig: Rig, door: Door) -> None:
    """The same id names another job for each tenant."""
    key = await door.key_of(tenant="other")
    await door("POST", PATH, json={"params": params("mine"), "id": "a"})
    await door("POST", PATH, json={"params": params("mine"), "id": "a", "batch": "night"})
    for name in ("a", "night:a", "default/a", "default%2Fa", "..%2Fdefault%2Fa", "x"):
        assert (await door("GET", f"{PATH}/{name}", key=key)).error == (404, "not_found_error")
    theirs = await door("POST", PATH, json={"params": params("theirs"), "id": "a"}, key=key)
    assert theirs.status == 202
    await rig.work_off()
    mine = (await door("GET", f"{PATH}/a")).json
    assert mine["state"] == "succeeded"
    assert mine["result"] != (await door("GET", f"{PATH}/a", key=key)).json["result"]


def test_names() -> None:
    """No name leads out of its tenant."""
    assert outer(inner("t", "night:a")) == "night:a"
    for name in ("a", "A.b_c-1", "x" * 64):
        assert is_name(name)
        assert is_job(f"{name}:{name}")
    for wrong in ("", "a/b", "a b", "a\n", "x" * 65, "é", None, 3, "a:b"):
        assert not is_name(wrong)
    for wrong in ("a/b", "a:b:c", ":", "a:", "", "a\n"):
        assert not is_job(wrong)


async def test_a_paused_answer_is_given_as_it_came(rig: Rig, door: Door) -> None:
    """A client of the Messages API continues it itself, as it does at the API."""
    rig.sim.configure(stops=[{"reason": "pause_turn", "share": 1.0}])
    async with rig.working():
        answer = await door("POST", PATH, json={"params": params(), "wait": 30})
    message = answer.json["result"]["message"]
    assert (message["stop_reason"], rig.calls()) == ("pause_turn", 1)
