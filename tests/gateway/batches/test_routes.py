"""The routes of Message Batches, against a running gateway."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from nightmill.errors import StoreUnavailableError
from nightmill_gateway.batches import create
from tests.gateway.batches.made import JSON, PATH, body, created, ended, request, results
from tests.gateway.batches.test_feeding import fed
from tests.rig import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nightmill.records.counts import Counts
    from nightmill.records.message_batch import MessageBatch
    from tests.gateway.door import Door
    from tests.rig import Rig


async def test_a_batch_from_create_to_results(rig: Rig, door: Door) -> None:
    """What a client of the API does, with a worker at work."""
    async with rig.working():
        made = await door("POST", f"{PATH}?beta=true", json=body(30))
        assert made.status == 200
        batch = made.json
        assert batch["type"] == "message_batch"
        assert batch["processing_status"] == "in_progress"
        assert batch["request_counts"]["processing"] == 30
        assert batch["results_url"] is batch["ended_at"] is batch["archived_at"] is None
        whole = await ended(door, batch["id"])
    assert whole["request_counts"]["succeeded"] == 30
    assert whole["results_url"].startswith(door.url)
    answer = await door("GET", whole["results_url"].removeprefix(door.url), headers={"accept": "x"})
    lines = [json.loads(line) for line in answer.body.decode().split("\n")[:-1]]
    assert [line["custom_id"] for line in lines] == [f"c{number}" for number in range(30)]
    assert lines[0]["result"]["message"]["type"] == "message"
    assert rig.calls() == 30


async def test_a_batch_is_a_batch_of_nightmill(rig: Rig, door: Door) -> None:
    """Every command works on it; errors of the API become results, and no canary pauses it."""
    rig.sim.configure(down=400)
    async with rig.working(canary=3):
        batch = await created(door, 12)
        assert (await ended(door, batch))["request_counts"]["errored"] == 12
    assert set((await results(door, batch)).values()) == {"errored"}
    counts = await door.services.batches.counts(batch)
    assert (counts.failed, counts.total, counts.flag) == (12, 12, "")


async def test_version_and_betas_travel(rig: Rig, door: Door) -> None:
    """A client that asks for a beta gets answers of that beta."""
    headers = {"anthropic-version": "2026-10-21", "anthropic-beta": "a-1, b-2"}
    made = await door("POST", PATH, json=body(1), headers=headers)
    await until(lambda: _queued(door, made.json["id"], 1))
    await rig.work_off()
    row = await rig.row(f"{made.json['id']}:c0")
    assert row.api.anthropic_version == "2026-10-21"
    assert row.api.anthropic_beta == ("a-1", "b-2")
    wrong = await door("POST", PATH, json=body(1), headers={"anthropic-beta": "a b"})
    assert wrong.error == (400, "invalid_request_error")
    assert "anthropic-beta" in wrong.message


async def _queued(door: Door, batch: str, number: int) -> bool:
    return (await door.services.batches.counts(batch)).queued == number


@pytest.mark.parametrize(
    ("data", "status", "problem"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b"[]", 400, "allowed: an object"),
        (b'{"requests": []}', 400, "requests: given []"),
        (json.dumps({"requests": [request(1), request(1)]}).encode(), 400, "requests.1.custom_id"),
        (json.dumps({"requests": [request(1, stream=True)]}).encode(), 400, "params.stream"),
        (json.dumps({"requests": [request(1)], "x": 1}).encode(), 400, "x: given 1"),
        (
            json.dumps({"requests": [request(1, system="x" * (33 << 20))]}).encode(),
            413,
            "requests.0",
        ),
    ],
)
async def test_nothing_is_half_accepted(door: Door, data: bytes, status: int, problem: str) -> None:
    """A client that gets an error has no batch, and nothing of it is called."""
    answer = await door("POST", PATH, data=data, headers=JSON)
    assert answer.status == status
    assert problem in answer.message
    assert (await door("GET", PATH)).json["data"] == []
    assert await door.services.message_batches.remains("n") == []


async def test_a_body_over_the_limit(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without a length, as the SDKs and pipes send it."""
    monkeypatch.setattr(create, "MAX_BYTES", 5_000)

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield json.dumps(body(100)).encode()

    for data in (json.dumps(body(100)).encode(), parts()):
        answer = await door("POST", PATH, data=data, headers=JSON)
        assert answer.error == (413, "request_too_large")
    assert await door.services.message_batches.remains("n") == []


async def test_a_commit_that_was_not_answered_keeps_its_requests(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store went away in the middle of it: if the batch is there, so are all its requests."""
    batches = door.services.message_batches
    add = batches.add

    async def add_and_fail(new: MessageBatch, **given: str) -> None:
        await add(new, **given)
        raise StoreUnavailableError

    monkeypatch.setattr(batches, "add", add_and_fail)
    assert (await door("POST", PATH, json=body(3))).error == (529, "overloaded_error")
    (there,) = (await door("GET", PATH)).json["data"]
    pages = [page async for page in batches.requests(there["id"])]
    assert len(pages[0]) == 3


async def test_pages_newest_first(door: Door) -> None:
    """The SDKs page with after_id until has_more is false."""
    ids = [await created(door, 1) for _ in range(5)]
    newest = ids[::-1]

    async def page(query: str) -> tuple[list[str], bool]:
        found = (await door("GET", f"{PATH}?{query}")).json
        listed = [batch["id"] for batch in found["data"]]
        assert found["first_id"] == (listed[0] if listed else None)
        assert found["last_id"] == (listed[-1] if listed else None)
        return listed, found["has_more"]

    assert await page("") == (newest, False)
    assert await page("limit=2") == (newest[:2], True)
    assert await page(f"limit=2&after_id={newest[1]}") == (newest[2:4], True)
    assert await page(f"limit=2&after_id={newest[3]}") == (newest[4:], False)
    assert await page(f"limit=2&before_id={newest[4]}") == (newest[2:4], True)
    assert await page(f"limit=3&before_id={newest[2]}") == (newest[:2], False)


async def test_a_page_is_one_command_to_redis(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page may have 1,000 batches that have not ended; each is counted as it is now."""
    ids = [await created(door, 2) for _ in range(4)]
    for batch in ids:
        await fed(door, batch, 2)
    reads: list[list[str]] = []
    read = door.services.batches._read

    async def counted(names: list[str | bytes]) -> list[Counts]:
        task = asyncio.current_task()
        assert task is not None
        if "Keeper" not in str(task.get_coro()):
            reads.append(sorted(map(str, names)))
        return await read(names)

    monkeypatch.setattr(door.services.batches, "_read", counted)
    found = (await door("GET", PATH)).json["data"]
    assert [each["request_counts"]["processing"] for each in found] == [2] * 4
    assert reads == [ids]


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("limit=0", "limit: given '0'; allowed: 1 to 1000"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=%C2%B2", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("after_id=x", "after_id: given 'x'; allowed: the id of a batch"),
        ("before_id=%00", "before_id"),
        (f"after_id=msgbatch_{'0' * 32}&before_id=msgbatch_{'0' * 32}", "before_id: given with"),
    ],
)
async def test_a_wrong_query_names_its_field(door: Door, query: str, problem: str) -> None:
    """A typing error must not look like an empty list."""
    answer = await door("GET", f"{PATH}?{query}")
    assert answer.error == (400, "invalid_request_error")
    assert problem in answer.message


async def test_cancel_without_any_worker(door: Door) -> None:
    """Nobody calls, so nobody else would record its requests; a second cancel changes nothing."""
    batch = await created(door, 5)
    await until(lambda: _queued(door, batch, 5))
    first = await door("POST", f"{PATH}/{batch}/cancel")
    assert first.json["processing_status"] in {"canceling", "ended"}
    whole = await ended(door, batch)
    assert whole["request_counts"]["canceled"] == 5
    assert whole["cancel_initiated_at"] is not None
    again = await door("POST", f"{PATH}/{batch}/cancel")
    assert again.json == whole
    assert set((await results(door, batch)).values()) == {"canceled"}


async def test_delete_only_what_has_ended(door: Door) -> None:
    """Rows go, totals and spend stay; the batch is gone at once for its client."""
    batch = await created(door, 3)
    early = await door("DELETE", f"{PATH}/{batch}")
    assert early.error == (400, "invalid_request_error")
    assert (await door("GET", f"{PATH}/{batch}/results")).error == (400, "invalid_request_error")
    await door("POST", f"{PATH}/{batch}/cancel")
    await ended(door, batch)
    deleted = await door("DELETE", f"{PATH}/{batch}")
    assert deleted.json == {"id": batch, "type": "message_batch_deleted"}
    for method, path in (("GET", ""), ("GET", "/results"), ("POST", "/cancel"), ("DELETE", "")):
        assert (await door(method, f"{PATH}/{batch}{path}")).error == (404, "not_found_error")
    assert (await door("GET", PATH)).json["data"] == []
    store = door.services.store

    async def removed() -> bool:
        return sum((await store.counts(batch)).values()) == 0

    await until(removed)
    assert (await door.services.batches.counts(batch)).cancelled == 3


async def test_the_url_of_results_is_that_of_the_client(door: Door) -> None:
    """Behind a proxy with TLS, the gateway's own address would not be reached."""
    batch = await created(door, 1)
    await door("POST", f"{PATH}/{batch}/cancel")
    await ended(door, batch)
    headers = {"host": "mill.example", "x-forwarded-proto": "https"}
    found = await door("GET", f"{PATH}/{batch}", headers=headers)
    assert found.json["results_url"] == f"https://mill.example{PATH}/{batch}/results"


async def test_no_route_shows_another_tenants_batch(door: Door) -> None:
    """An id that leaked, or was guessed, is a 404 like one that does not exist."""
    key = await door.key_of(tenant="other")
    mine, theirs = await created(door, 1), await created(door, 1, key=key)
    for method, path in (("GET", ""), ("GET", "/results"), ("POST", "/cancel"), ("DELETE", "")):
        for batch, with_key in ((mine, key), (theirs, door.key)):
            answer = await door(method, f"{PATH}/{batch}{path}", key=with_key)
            assert answer.error == (404, "not_found_error"), (method, path)
    listed = (await door("GET", PATH, key=key)).json["data"]
    assert [batch["id"] for batch in listed] == [theirs]
    around = (await door("GET", f"{PATH}?before_id={mine}", key=key)).json["data"]
    assert [batch["id"] for batch in around] == [theirs]


@pytest.mark.parametrize("name", ["x", "msgbatch_", "%00", "msgbatch_%2e%2e", "prompts", "é"])
async def test_an_id_that_is_none(door: Door, name: str) -> None:
    """Also a batch that did not come over HTTP is no Message Batch."""
    await door.services.producer.enqueue(request(1), batch="prompts")
    assert (await door("GET", f"{PATH}/{name}")).error == (404, "not_found_error")


async def test_an_idempotency_key_names_one_batch(door: Door) -> None:
    """A client that is not sure sends the same create again; ten samples without a key stay ten."""
    headers = {"idempotency-key": "night-1"}
    first = await door("POST", PATH, json=body(2), headers=headers)
    second = await door("POST", PATH, json=body(2), headers=headers)
    assert first.json["id"] == second.json["id"]
    other = await door("POST", PATH, json=body(3), headers=headers)
    assert other.error == (409, "invalid_request_error")
    key = await door.key_of(tenant="other")
    theirs = await door("POST", PATH, json=body(2), headers=headers, key=key)
    assert theirs.json["id"] != first.json["id"]
    wrong = await door("POST", PATH, json=body(2), headers={"idempotency-key": "x" * 256})
    assert wrong.error == (400, "invalid_request_error")
    samples = {await created(door, 2) for _ in range(10)}
    assert len(samples) == 10
    assert await door.services.message_batches.remains("n") == []


async def test_a_create_whose_answer_was_lost_is_one_batch(door: Door) -> None:
    """The SDKs send it again by themselves, with a count, and without a key."""
    batches, again = door.services.message_batches, {"x-stainless-retry-count": "1"}
    batch = await created(door, 2)
    fresh = await door("POST", PATH, json=body(2), headers=again)
    assert fresh.json["id"] != batch, "its answer was written to its end"
    stored = await batches.get("default", batch)
    assert stored is not None
    assert stored.answered_at is not None
    await batches.answered(stored, None)  # as when the connection broke
    taken = await door("POST", PATH, json=body(2), headers=again)
    assert taken.json["id"] == batch
    assert (await door("POST", PATH, json=body(2), headers=again)).json["id"] != batch
    assert (await door("POST", PATH, json=body(3), headers=again)).json["id"] != batch
    assert await batches.remains("n") == []


async def test_a_client_that_is_gone_has_not_seen_its_answer(
    door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its batch is there, and its retry finds it."""
    arrived, go_on = asyncio.Event(), asyncio.Event()
    batches = door.services.message_batches
    add = batches.add

    async def add_slowly(new: MessageBatch, **given: str) -> MessageBatch:
        made = await add(new, **given)
        arrived.set()
        await go_on.wait()
        return made

    monkeypatch.setattr(batches, "add", add_slowly)
    sending = asyncio.create_task(door("POST", PATH, json=body(2)))
    await arrived.wait()
    sending.cancel()
    await asyncio.wait([sending])
    go_on.set()
    monkeypatch.undo()
    again = await door("POST", PATH, json=body(2), headers={"x-stainless-retry-count": "1"})
    assert again.status == 200
    listed = (await door("GET", PATH)).json["data"]
    assert [batch["id"] for batch in listed] == [again.json["id"]]
