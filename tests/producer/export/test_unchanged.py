"""An export that would come out the same is not written again."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from nightmill.export.unchanged import FILE, export_once
from nightmill.store import ResultStore
from tests.producer.store.samples import FAILED, SUCCEEDED, numbered

OLD_NS = 1_700_000_000_000_000_000


class Target:
    """A file that a batch is exported to, and tells whether it was written."""

    def __init__(self, store: ResultStore, folder: Path) -> None:
        """Export to a file in `folder`, which is also the data directory."""
        self.store = store
        self.folder = folder
        self.path = folder / "out.jsonl"
        self.batch = SUCCEEDED.batch or ""

    async def written(self, batch: str | None = None) -> bool:
        """Export; return whether the file was written."""
        before = self.path.stat().st_ino if self.path.exists() else 0
        lines = await export_once(self.store, batch or self.batch, self.path, self.folder)
        assert lines == len(self.path.read_bytes().splitlines())
        return self.path.stat().st_ino != before


@pytest.fixture
async def target(store: ResultStore, tmp_path: Path) -> Target:
    """Return a target that was written once."""
    made = Target(store, tmp_path)
    assert await made.written()
    return made


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ResultStore]:
    """Open a store with a batch of three."""
    async with ResultStore.open(tmp_path / "results.db") as opened:
        await opened.record([FAILED, SUCCEEDED, numbered(1)])
        yield opened


async def test_the_same_rows_are_not_written_again(target: Target) -> None:
    """38 s of a finished million's 71 s."""
    assert not await target.written()


async def test_a_row_more_a_later_run_and_a_row_less_are_written(target: Target) -> None:
    """Each changes what the file should be."""
    await target.store.record([numbered(2)])
    assert await target.written()
    again = msgspec.structs.replace(numbered(2), run=1)
    await target.store.record([again])
    assert await target.written()
    await target.store.prune(target.batch)
    assert await target.written()
    assert not await target.written()


async def test_a_file_that_a_person_changed_is_written_again(target: Target) -> None:
    """Or deleted, or only touched: it may be another one."""
    data = target.path.read_bytes()
    target.path.write_bytes(data[:-1] + b" ")
    assert await target.written()
    os.utime(target.path, ns=(OLD_NS, OLD_NS))
    assert await target.written()
    target.path.unlink()
    assert await target.written()


async def test_another_batch_to_the_same_file_is_written(target: Target) -> None:
    """The file would be the first batch's."""
    other = msgspec.structs.replace(numbered(7), batch="other", job_id="other:line-7")
    await target.store.record([other])
    assert await target.written("other")
    assert await target.written()


@pytest.mark.parametrize("text", [b"", b"[]", b'{"x": 1}', b"\xff", b"[" * 100_000])
async def test_notes_that_cannot_be_read_are_none(target: Target, text: bytes) -> None:
    """The file is written again, and then noted again."""
    (target.folder / FILE).write_bytes(text)
    assert await target.written()
    assert not await target.written()
