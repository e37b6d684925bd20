"""Counts add up while a batch is cancelled, expires and is deleted at once; pages of strangers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from nightmill.message_batches import keeper
from nightmill_gateway.batches import looking
from tests.gateway.batches.made import PATH, body, created, results
from tests.rig import until

if TYPE_CHECKING:
    from tests.gateway.door import Door
    from tests.rig import Rig

COUNT = 40


@pytest.mark.parametrize("first", ["cancel", "expire"])
async def test_counts_add_up_at_every_moment(
    rig: Rig, door: Door, first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled while it expires, deleted as soon as it may be, read all the time."""
    monkeypatch.setattr(looking, "LOOK_S", 0.05)
    monkeypatch.setattr(keeper, "BUSY_S", 0.05)
    expires_s = 2 if first == "expire" else 3600
    batch = await created(door, COUNT, nightmill={"expires_in": expires_s})
    seen: list[dict[str, Any]] = []

    async def ended() -> bool:
        answer = await door("GET", f"{PATH}/{batch}")
        assert answer.status == 200
        seen.append(answer.json)
        return bool(answer.json["processing_status"] == "ended")

    async with rig.working(max_in_flight=2):
        await until(lambda: rig.calls() > 2)
        if first == "cancel":
            paths = (("POST", "/cancel"), ("DELETE", ""), ("POST", "/cancel"), ("GET", ""))
            sent = [door(method, f"{PATH}/{batch}{rest}") for method, rest in paths]
            answers = await asyncio.gather(*sent)
            assert {each.status for each in answers} <= {200, 400}
        await until(ended)
        for found in seen:
            counts = found["request_counts"]
            assert sum(counts.values()) == COUNT
            assert min(counts.values()) >= 0
        ends = [found["request_counts"] for found in seen if found["ended_at"]]
        assert ends[-1]["processing"] == 0
        assert len(await results(door, batch)) == COUNT
        assert (await door("DELETE", f"{PATH}/{batch}")).status == 200
    assert (await door("GET", f"{PATH}/{batch}")).error == (404, "not_found_error")


async def test_the_beta_path_is_the_same(door: Door) -> None:
    """`client.beta.messages.batches` sends `?beta=true` to every route."""
    made = await door("POST", f"{PATH}?beta=true", json=body(1))
    assert made.status == 200
    one = f"{PATH}/{made.json['id']}"
    assert (await door("GET", f"{one}?beta=true")).json["id"] == made.json["id"]
    assert len((await door("GET", f"{PATH}?beta=true&limit=1")).json["data"]) == 1
    assert (await door("POST", f"{one}/cancel?beta=true")).status == 200
    await until(lambda: _has_ended(door, one))
    assert (await door("GET", f"{one}/results?beta=true")).status == 200
    assert (await door("DELETE", f"{one}?beta=true")).status == 200


async def _has_ended(door: Door, path: str) -> bool:
    return bool((await door("GET", path)).json["processing_status"] == "ended")


async def test_a_page_after_a_batch_that_is_no_longer_there(door: Door) -> None:
    """Ids are in the order of time: paging goes on behind a deleted or foreign one."""
    ids = [await created(door, 1) for _ in range(3)]
    theirs = await created(door, 1, key=await door.key_of("other"))
    await door("POST", f"{PATH}/{ids[1]}/cancel")
    await until(lambda: _has_ended(door, f"{PATH}/{ids[1]}"))
    assert (await door("DELETE", f"{PATH}/{ids[1]}")).status == 200
    after = (await door("GET", f"{PATH}?after_id={ids[1]}")).json
    assert [each["id"] for each in after["data"]] == [ids[0]]
    before = (await door("GET", f"{PATH}?before_id={ids[1]}")).json
    assert [each["id"] for each in before["data"]] == [ids[2]]
    foreign = (await door("GET", f"{PATH}?after_id={theirs}")).json
    assert [each["id"] for each in foreign["data"]] == [ids[2], ids[0]]


@pytest.mark.parametrize(("limit", "status"), [(1, 200), (1000, 200), (0, 400), (1001, 400)])
async def test_the_bounds_of_limit(door: Door, limit: int, status: int) -> None:
    """As the API has them; an unknown parameter is passed over, as there."""
    answer = await door("GET", f"{PATH}?limit={limit}&unknown=1")
    assert answer.status == status
