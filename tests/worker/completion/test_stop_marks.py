"""A worker stops while its committer tries the store: answers are on the disk once, and marked."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, cast

from nightmill.errors import StoreUnavailableError
from nightmill.records.result import Result
from nightmill.records.state import JobState
from nightmill_worker.completion.committer import Committer
from nightmill_worker.completion.spool import Spool
from nightmill_worker.jobs.decision import Ending
from nightmill_worker.queue.records import Finish

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import pytest

    from nightmill_worker.completion.spool import Spooled
    from nightmill_worker.queue.records import Lease


class Away:
    """A store that is away."""

    async def probe(self) -> None:
        """Fail, as every call does."""
        raise StoreUnavailableError("away")

    async def record_all(self, *_: object) -> int:
        """Fail."""
        raise StoreUnavailableError("away")


class Marks:
    """Of the scripts the one that marks; the first mark hangs until it is cancelled."""

    def __init__(self) -> None:
        """Begin with no marks."""
        self.begun = asyncio.Event()
        self.marked: list[str] = []

    async def renew(self, leases: Sequence[Lease]) -> None:
        """Note which jobs are marked."""
        if leases and not self.begun.is_set():
            self.begun.set()
            await asyncio.Event().wait()
        self.marked += [lease.id for lease in leases]


def ending(job_id: str) -> Ending:
    """Return the end of a job."""
    row = Result(job_id=job_id, status=JobState.FAILED)
    finish = Finish(
        id=job_id,
        token=job_id,
        queue="q",
        status="failed",
        again=0,
        input=0,
        output=0,
        cost=0,
        fault="",
        kept=b"",
    )
    return Ending(row=row, finish=finish)


def committer(scripts: Marks, folder: Path) -> Committer:
    """Return a committer whose store is away."""
    return Committer(
        cast("Any", Away()),
        cast("Any", scripts),
        Spool(folder, "worker"),
        lambda _: None,
        done=lambda _: None,
        releases=cast("Any", None),
    )


async def test_a_mark_that_a_stop_cuts_off_is_made_again(tmp_path: Path) -> None:
    """Its lease would end before the next start, and its job would be called and paid again."""
    scripts = Marks()
    one = committer(scripts, tmp_path)
    async with asyncio.timeout(10):
        running = asyncio.create_task(one.run())
        one.put([ending("a")])
        await scripts.begun.wait()
        one.close()
        await running
    assert scripts.marked == ["a"]


async def test_a_write_that_a_stop_cuts_off_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next process would store and finish it twice."""
    begun, go_on, append = asyncio.Event(), threading.Event(), Spool.append
    loop = asyncio.get_running_loop()

    def slow(spool: Spool, items: Iterable[Spooled]) -> None:
        loop.call_soon_threadsafe(begun.set)
        go_on.wait(10)
        append(spool, items)

    monkeypatch.setattr(Spool, "append", slow)
    one = committer(Marks(), tmp_path)
    one._unspooled.append(ending("a"))
    async with asyncio.timeout(10):
        writing = asyncio.create_task(one._write_spool())
        await begun.wait()
        writing.cancel()
        await asyncio.wait([writing])
        go_on.set()
        await one._write_spool()
    assert (tmp_path / "worker.jsonl").read_bytes().count(b"\n") == 1
