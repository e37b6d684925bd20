"""A worker that cannot go on as it should says why, where one looks: in `run` and `status`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path

import pytest

from nightmill.client.corrected import Corrections
from nightmill.errors import StoreUnavailableError
from nightmill.queue.batches import Batches
from nightmill.queue.connection import connect
from nightmill.queue.crashes import read_troubles
from nightmill.records.counts import Counts
from nightmill.reports.view import look
from nightmill_worker.machine.local_run import LocalRun
from nightmill_worker.machine.supervisor import Supervisor
from tests.rig import Rig, hello, rigged, until

WITHIN_S = 5


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return everything but a worker."""
    async with rigged(redis_url, tmp_path) as rig:
        yield rig


@pytest.mark.parametrize("refusing", ["record", "started"])
async def test_a_full_disk_is_shown_until_it_is_free(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, refusing: str
) -> None:
    """`store away` stood only in the workers' log, while the progress said nothing for hours."""
    full = True
    real = getattr(rig.store, refusing)

    async def refuse(*args: object) -> object:
        if full:
            raise StoreUnavailableError("results.db: its disk is full")
        return await real(*args)

    monkeypatch.setattr(rig.store, refusing, refuse)
    await rig.producer.enqueue(hello())
    batches = Batches(rig.redis)
    async with rig.working():
        await until(lambda: read_troubles(rig.redis), within=WITHIN_S)
        view = await look(batches, None, Corrections(batches, rig.settings, lenient=True))
        assert view.troubles == ("trouble: store away: results.db: its disk is full",)
        full = False

        async def over() -> bool:
            return not await read_troubles(rig.redis)

        await until(over, within=10)


async def test_a_run_shows_that_redis_is_away(rig: Rig) -> None:
    """The progress stood still without a word."""
    shown: list[Sequence[str]] = []
    settings = rig.settings.model_copy(update={"redis_url": "unix:///nowhere.sock"})

    def show(_counts: Counts, troubles: Sequence[str]) -> None:
        shown.append(troubles)

    local = LocalRun(Supervisor(settings, 1), settings, "night")
    async with aclosing(connect(settings)) as redis, asyncio.timeout(WITHIN_S):
        reading = asyncio.create_task(local._read(Batches(redis), show))
        await until(lambda: shown)
        local.interrupt()
        await reading
    assert shown[0][0].startswith("trouble: Redis is away: ")
