"""`ended` is final: a retry of an ended Message Batch makes a new one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec

from nightmill.maintenance.requeue import Requeued, Selection, requeue
from nightmill.message_batches.keeper import Keeper
from nightmill.records.job import now_ms
from nightmill.records.state import JobState
from nightmill.store.message_batches import MessageBatches
from tests.gateway.batches.made import PATH, created, ended, results
from tests.gateway.batches.test_feeding import fed
from tests.gateway.batches.test_large import SMALL, large, made
from tests.gateway.door import opened
from tests.integration.shell import Shell

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from nightmill.records.message_batch import MessageBatch
    from tests.gateway.door import Door
    from tests.rig import Rig


async def failed(rig: Rig, door: Door, count: int = 3) -> str:
    """Return an ended batch whose requests all failed; the endpoint answers again."""
    rig.sim.configure(down=400)
    batch = await created(door, count)
    async with rig.working():
        assert (await ended(door, batch))["request_counts"]["errored"] == count
    rig.sim.configure(down=None)
    return batch


async def again(rig: Rig, batch: str, which: Selection | None = None, **patch: object) -> Requeued:
    """Retry in Python."""
    batches = rig.producer.batch(batch)._batches
    which = which or Selection()
    return await requeue(batch, rig.store, rig.producer, batches, which=which, patch=patch)


async def stored(rig: Rig, batch: str) -> MessageBatch:
    """Return a batch as the store has it."""
    found = await MessageBatches(rig.store).named(batch)
    assert found is not None
    return found


async def test_the_failed_requests_become_a_new_batch(rig: Rig, door: Door) -> None:
    """The old one stays as its client has read it."""
    old = await failed(rig, door)
    before = (await door("GET", f"{PATH}/{old}")).json
    lines = (await door("GET", f"{PATH}/{old}/results")).body
    done = await again(rig, old)
    assert (done.new, done.queued_already, done.left_out) == (3, 0, 0)
    assert done.batch != old
    async with rig.working():
        whole = await ended(door, done.batch)
    assert whole["request_counts"]["succeeded"] == 3
    assert list(await results(door, done.batch)) == ["c0", "c1", "c2"]
    assert (await door("GET", f"{PATH}/{old}")).json == before
    assert (await door("GET", f"{PATH}/{old}/results")).body == lines
    new, was = await stored(rig, done.batch), await stored(rig, old)
    assert new.tenant == was.tenant
    assert new.expires_at - new.created_at == was.expires_at - was.created_at


async def test_the_selection_and_the_changes_hold(rig: Rig, door: Door) -> None:
    """Also without kept params: the requests are in the store until the batch is deleted."""
    rig.settings = rig.settings.model_copy(update={"keep_params": False})
    old = await failed(rig, door, 2)
    nothing = await again(rig, old, Selection(statuses=frozenset({JobState.CANCELLED})))
    assert (nothing.new, nothing.batch) == (0, "")
    done = await again(rig, old, max_tokens=33)
    (page,) = [page async for page in MessageBatches(rig.store).requests(done.batch)]
    assert [json.loads(each.body)["max_tokens"] for each in page] == [33, 33]
    wrong = await again(rig, old, max_tokens=-1)
    assert (wrong.new, wrong.invalid, wrong.batch) == (0, 2, "")
    assert "max_tokens" in wrong.problem
    assert len((await door("GET", PATH)).json["data"]) == 2
    await MessageBatches(rig.store).delete(await stored(rig, old), now_ms())
    assert (await again(rig, old)).batch == ""


async def test_a_batch_that_has_not_ended_is_retried_in_place(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No client has read an end. A large request is not sent through Redis then either."""
    rig.settings = rig.settings.model_copy(update={"max_payload_bytes": SMALL})
    rig.producer.settings = rig.settings
    limits = {"max_payload_bytes": SMALL}
    rig.producer.defaults = msgspec.structs.replace(rig.producer.defaults, **limits)
    async with opened(rig.settings) as door:
        batch = await made(door, large(0))
        await fed(door, batch, 1)
    rig.sim.configure(down=400)

    async def no_look(_: Keeper) -> int:
        return 0

    with monkeypatch.context() as patch:  # the worker's keeper would end the batch
        patch.setattr(Keeper, "look", no_look)
        await rig.work_off()
    rig.sim.configure(down=None)
    assert (await stored(rig, batch)).ended_at is None
    done = await again(rig, batch)
    assert (done.new, done.batch, done.left_out) == (1, "", 0)
    async with opened(rig.settings) as door, rig.working(max_payload_bytes=SMALL):
        assert (await ended(door, batch))["request_counts"]["succeeded"] == 1


async def test_the_command_prints_the_new_id(
    rig: Rig, door: Door, tmp_path: Path, redis_url: str
) -> None:
    """On its standard output, in a line for a person."""
    old = await failed(rig, door)
    shell = Shell(tmp_path, redis_url=redis_url, store_url=rig.store.where)
    done = shell("retry", old)
    new = max(batch["id"] for batch in (await door("GET", PATH)).json["data"])
    assert new != old
    assert (done.code, done.out) == (
        0,
        f'"{old}" has ended: 3 failed jobs are in the new batch {new}.\n',
    )


async def test_deleting_keeps_what_was_spent(rig: Rig, door: Door) -> None:
    """Rows and requests go; totals of what was paid stay, in the store and in Redis."""
    batch = await created(door, 4)
    async with rig.working():
        await ended(door, batch)
    spent = await rig.store.spent(batch)
    assert spent.cost > 0
    assert (await door("DELETE", f"{PATH}/{batch}")).status == 200
    async with rig.working():
        while await MessageBatches(rig.store).unfinished():
            await door("GET", "/healthz")
    assert (await rig.store.spent(batch)).cost == spent.cost
    assert sum((await rig.store.counts(batch)).values()) == 0
    assert (await door.services.batches.counts(batch)).nanodollars == round(spent.cost * 1e9)
