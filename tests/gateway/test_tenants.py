"""A tenant never sees what another has: every route, with another tenant's ids."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from nightmill.queue import keys
from nightmill_gateway.answers.errors import OVERLOADED
from tests.gateway.door import opened
from tests.gateway.messages.test_messages import body
from tests.rig import until

if TYPE_CHECKING:
    from aiohttp import web

    from tests.gateway.door import Answer, Door
    from tests.rig import Rig

BATCHES = "/v1/messages/batches"
OPEN = ("/healthz", "/readyz", "/openapi.json")
"""Routes that show nothing of anybody."""
NO_BATCH = "msgbatch_" + "0" * 32
CONSOLE = re.compile(r"^/($|console|login|logout|static|batches|jobs|lanes|workers|events|audit)")
"""Routes of the console: they want a session, see tests/gateway/console."""


def routes(app: web.Application) -> list[tuple[str, str]]:
    """Return method and path of every route with a name of something in it."""
    return sorted(
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and "{" in route.resource.canonical
    )


async def ids_of(door: Door, key: str) -> list[str]:
    """Make one of each thing as a tenant; return their ids."""
    requests = [{"custom_id": "secret-1", "params": body()}]
    batch = await door("POST", BATCHES, key=key, json={"requests": requests})
    named = {"id": "secret-2", "params": body()}
    job = await door("POST", "/v1/jobs", key=key, json=named)
    inside = await door("POST", "/v1/jobs", key=key, json={**named, "batch": "secret-3"})
    found = [each.json["id"] for each in (batch, job, inside)]
    return [*found, f"{found[0]}:secret-1", "messages:1"]


def without_ids(answer: Answer, *ids: str) -> tuple[int, str, Any]:
    """Return an answer without what is of this request alone."""
    text = answer.body.decode()
    for each in (*ids, answer.headers["request-id"]):
        text = text.replace(each, "ID")
    names = sorted(set(answer.headers) - {"date"})
    return answer.status, text, names


async def test_another_tenants_ids_are_as_those_that_do_not_exist(rig: Rig, door: Door) -> None:
    """A new route is tried as well, since the router says which there are."""
    theirs, mine = await door.key_of("theirs"), await door.key_of("mine")
    ids = await ids_of(door, theirs)
    async with rig.working():
        await until(lambda: _ended(door, theirs, ids[0]))
        tried = 0
        for method, path in routes(door.app):
            if CONSOLE.match(path):
                continue
            for made in ids:
                unknown = NO_BATCH if made.startswith("msgbatch_") else "unknown-1"
                unknown += made[len(NO_BATCH) :] if made.startswith("msgbatch_") else ""
                other, none = [
                    without_ids(
                        await door(
                            method, re.sub(r"\{[^}]*\}", each, path), key=mine, json=_body(method)
                        ),
                        each,
                    )
                    for each in (made, unknown)
                ]
                assert other == none, (method, path, made)
                assert other[0] == 404 or method == "HEAD", (method, path, made)
                tried += 1
    assert tried >= 5 * 5
    for made in ids[:3]:
        path = f"{BATCHES}/{made}" if made.startswith("msgbatch_") else f"/v1/jobs/{made}"
        assert (await door("GET", path, key=theirs)).status == 200, "nothing was changed"


async def _ended(door: Door, key: str, batch: str) -> bool:
    found = await door("GET", f"{BATCHES}/{batch}", key=key)
    return bool(found.json["processing_status"] == "ended")


def _body(method: str) -> dict[str, object] | None:
    return {} if method == "POST" else None


async def test_lists_show_no_other_tenants_batches(door: Door) -> None:
    """Also not as the place to go on from."""
    theirs, mine = await door.key_of("theirs"), await door.key_of("mine")
    made, *_ = await ids_of(door, theirs)
    for query in ("", f"?after_id={made}", f"?before_id={made}", "?limit=1000"):
        answer = await door("GET", BATCHES + query, key=mine)
        assert answer.json["data"] == [], query
        assert not answer.json["has_more"]


async def test_one_name_is_two_jobs_for_two_tenants(door: Door) -> None:
    """Otherwise a name would tell that another tenant uses it."""
    for tenant in ("theirs", "mine"):
        answer = await door(
            "POST",
            "/v1/jobs",
            key=await door.key_of(tenant),
            json={"id": "report", "params": body(tenant)},
        )
        assert answer.status == 202


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/jobs", BATCHES])
async def test_a_full_queue_takes_nothing_more(rig: Rig, path: str) -> None:
    """529 with retry-after, which the SDKs obey; nothing is half accepted."""
    settings = rig.settings.model_copy(update={"max_queued": 3})
    async with opened(settings) as door, opened(settings) as second:
        for way in (door, second, door):
            assert (await way("POST", "/v1/jobs", json={"params": body()})).status == 202
        given = {
            "/v1/messages": body(),
            "/v1/jobs": {"params": body()},
            BATCHES: {"requests": [{"custom_id": "a", "params": body()}]},
        }
        for way in (door, second):
            answer = await way("POST", path, json=given[path])
            assert answer.error == (OVERLOADED, "overloaded_error")
            assert answer.message.startswith("the queue has 3 jobs, MAX_QUEUED is 3")
            assert int(answer.headers["retry-after"]) >= 1
        assert (await door("GET", BATCHES)).json["data"] == []
        async with rig.working():
            await until(lambda: _takes(door, path, given[path]))


async def _takes(door: Door, path: str, given: dict[str, Any]) -> bool:
    return (await door("POST", path, json=given)).status in (200, 202)


async def test_jobs_without_a_batch_wait_in_their_tenants_queue(rig: Rig, door: Door) -> None:
    """In one queue for all, a tenant's thousand jobs would be before another tenant's one."""
    for tenant in ("theirs", "mine"):
        key = await door.key_of(tenant)
        made = await door("POST", "/v1/jobs", key=key, json={"id": "x", "params": body()})
        assert made.json["id"] == "x"
    queues = await rig.redis.execute_command("SMEMBERS", keys.QUEUES)
    assert {name.decode().split(":")[2] for name in queues} == {"theirs/jobs", "mine/jobs"}
    async with rig.working():
        key = await door.key_of("mine")

        async def ended() -> bool:
            found = await door("GET", "/v1/jobs/x", key=key)
            return bool(found.json["state"] == "succeeded")

        await until(ended)
