"""A file that was fed whole and has all its rows is not read again; in any other case it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from nightmill.enqueue import known
from nightmill.enqueue.fed import Fed
from nightmill.enqueue.feeder import Feeder
from nightmill.queue.batches import Batches
from nightmill.sources import Line
from tests.producer.enqueue.test_feeder import lines
from tests.rig import Rig, hello, rigged


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for signs of life of workers: none runs here."""
    monkeypatch.setattr(known, "SIGN_OF_LIFE_S", 0.0)


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig in which five lines of the content "a" were fed and answered."""
    async with rigged(redis_url, tmp_path) as made:
        assert (await again(made, "a"))[0] == Fed(new=5)
        await made.work_off()
        yield made


class Reading:
    """A file whose passes are counted."""

    def __init__(self, jobs: int) -> None:
        """Take the number of lines."""
        self.jobs = jobs
        self.passes = 0

    def __call__(self) -> Iterator[Line]:
        """Yield the lines."""
        self.passes += 1
        yield from lines(self.jobs)


async def again(rig: Rig, content: str | None, jobs: int = 5) -> tuple[Fed, int, int]:
    """Feed the file as `run` does; return what was fed, the passes, and the missing rows."""
    file = Reading(jobs)
    one = Feeder("night", rig.producer, Batches(rig.redis), rig.store, content=content)
    async with one:
        await one.check(file())
        fed = await one.feed(file())
        if (await Batches(rig.redis).counts("night")).drained:
            return fed, file.passes, await one.missing(file())
        return fed, file.passes, 0


STORED = Fed(stored_already=5)


async def test_the_same_file_again_is_not_read(rig: Rig) -> None:
    """A finished million took 71 s: every line was read three times and looked up twice."""
    assert await again(rig, "a") == (STORED, 0, 0)
    counts = await Batches(rig.redis).counts("night")
    assert (counts.state, counts.total, counts.succeeded) == ("done", 5, 5)


@pytest.mark.parametrize("content", ["b", None])
async def test_another_file_is_read(rig: Rig, content: str | None) -> None:
    """Its lines may be the same all the same."""
    fed, passes, missing = await again(rig, content)
    assert (fed, missing) == (STORED, 0)
    assert passes == 2
    assert (await again(rig, "a"))[1] == 2, "the last file that was fed was another one"


async def test_a_file_with_a_missing_row_is_read(rig: Rig) -> None:
    """A row was pruned, or its job was lost."""
    await rig.store.prune("night")
    fed, passes, _ = await again(rig, "a")
    assert fed.stored_already == 0
    assert passes > 0


async def test_a_file_with_a_row_of_another_request_is_read(rig: Rig) -> None:
    """`retry --set` answers another request: that is shown as before."""
    row = await rig.row("night:c1")
    await rig.store.record([msgspec.structs.replace(row, run=row.run + 1, request_hash="f" * 16)])
    with pytest.raises(Exception, match="another request"):
        await again(rig, "a")


async def test_a_file_with_queued_jobs_is_read(rig: Rig) -> None:
    """`retry` queues jobs that have a row."""
    await rig.producer.enqueue(hello(), batch="night", custom_id="another")
    assert (await again(rig, "a"))[1] == 2


async def test_a_batch_that_redis_has_lost_is_known_again(rig: Rig) -> None:
    """Its counts come from the store."""
    await rig.redis.flushall()
    assert await again(rig, "a") == (STORED, 0, 0)
    counts = await Batches(rig.redis).counts("night")
    assert (counts.state, counts.total, counts.succeeded) == ("done", 5, 5)
