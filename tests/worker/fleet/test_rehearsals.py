"""Jobs of a rehearsal and real ones in one Redis: who claims which."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nightmill import Producer
from nightmill.errors import InvalidParamsError
from nightmill.records.job import rehearsal_of
from tests.rig import Rig, hello, rigged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig without workers."""
    async with rigged(redis_url, tmp_path) as made:
        yield made


async def test_a_rehearsal_and_real_jobs_do_not_mix(rig: Rig) -> None:
    """A real worker paid for a rehearsal's jobs, and a simulator answered real ones."""
    rehearsing = rig.settings.model_copy(update={"rehearsal": True})
    async with Producer(settings=rehearsing) as producer:
        made_up = [{"custom_id": "a", **hello()}, {"custom_id": "b", **hello()}]
        await producer.enqueue_many(made_up, batch="night")
        await producer.feed(made_up, batch="fed")
        single = await producer.enqueue(hello())
        assert producer.batch("night").name == "night@rehearsal"
    await rig.producer.enqueue(hello(), batch="night", custom_id="a")
    await rig.producer.enqueue(hello(), job_id="one")
    async with rig.working():
        assert not (await rig.row("night:a")).rehearsal
        await rig.row("one")
    assert set(await rig.store.batches()) == {"night", ""}
    async with rig.working(rehearsal=True):
        rows = [await rig.row(f"{name}@rehearsal:b") for name in ("night", "fed")]
        rows.append(await rig.row(single.job_id))
    assert [row.batch for row in rows] == ["night@rehearsal", "fed@rehearsal", "@rehearsal"]
    assert all(row.rehearsal and (row.request_hash or "").startswith("rehearsed-") for row in rows)


async def test_a_rehearsals_worker_leaves_real_jobs_alone(rig: Rig) -> None:
    """Also single jobs, which have no batch."""
    await rig.producer.enqueue(hello(), batch="night", custom_id="a")
    await rig.producer.enqueue(hello(), job_id="one")
    rehearsing = rig.settings.model_copy(update={"rehearsal": True})
    async with Producer(settings=rehearsing) as producer:
        await producer.enqueue(hello(), batch="night", custom_id="a")
    async with rig.working(rehearsal=True):
        await rig.row("night@rehearsal:a")
    assert set(await rig.store.batches()) == {"night@rehearsal"}


async def test_a_rehearsals_name_is_kept_for_rehearsals(rig: Rig) -> None:
    """A real job in such a batch would never be claimed."""
    with pytest.raises(InvalidParamsError, match="kept for a rehearsal"):
        await rig.producer.enqueue(hello(), batch="night@rehearsal", custom_id="a")
    assert rehearsal_of(rehearsal_of("night")) == "night@rehearsal"
