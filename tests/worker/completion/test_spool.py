"""The spool file: whole lines or none, and the files of ended processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightmill.store.rows import from_row, to_row
from nightmill_worker.completion.spool import Orphan, Spool, Spooled
from nightmill_worker.jobs.turns import Continuation
from nightmill_worker.queue.records import Finish, Release
from tests.producer.store.samples import FAILED, SINGLE, SUCCEEDED
from tests.producer.store.turns_conformance import TURN

RESULTS = (SUCCEEDED, FAILED, SINGLE)
ITEMS = [
    Spooled(
        row=to_row(result),
        finish=Finish(
            id=result.job_id,
            token="w:1:1",  # noqa: S106 - a lease, no secret
            queue="q",
            status=result.status,
            again=0,
            input=1,
            output=2,
            cost=3,
            fault="",
            kept=b'{"a": "\xff"}',
        ),
    )
    for result in RESULTS
]


@pytest.fixture
def gone(tmp_path: Path) -> Path:
    """Return the spool file of a process that is gone."""
    spool = Spool(tmp_path, "gone")
    spool.append(ITEMS[:2])
    spool.append(ITEMS[2:])
    spool.close()
    return tmp_path / "gone.jsonl"


def test_results_and_finishes_come_back_as_they_were(gone: Path) -> None:
    """A drained row must be the row that would have been stored."""
    items: list[Spooled] = []
    for orphan in Spool(gone.parent, "heir").orphans():
        with orphan:
            items = list(orphan)
    assert [from_row(item.row) for item in items] == list(RESULTS)
    assert [item.finish for item in items] == [item.finish for item in ITEMS]
    assert not gone.exists()


def test_the_file_of_a_live_process_is_not_drained(tmp_path: Path) -> None:
    """Its owner drains it, and knows what is stored already."""
    spool, other = Spool(tmp_path, "alive"), Spool(tmp_path, "other")
    spool.append(ITEMS)
    assert not list(other.orphans())
    assert other.is_used()
    spool.clear()
    assert not other.is_used()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [b"half a li", b"\xff\n\n", b'deadbeef {"row":{}}\n'])
def test_a_damaged_line_is_set_aside_and_the_rest_is_read(gone: Path, damage: bytes) -> None:
    """A power loss damages the last line, a bad disk any line."""
    first, *rest = gone.read_bytes().splitlines(keepends=True)
    gone.write_bytes(
        first + (damage if damage.endswith(b"\n") else damage + b"\n") + b"".join(rest)
    )
    for orphan in Spool(gone.parent, "heir").orphans():
        with orphan:
            assert len(list(orphan)) == len(ITEMS)
    assert gone.with_suffix(".damaged").read_bytes().startswith(damage)
    assert not gone.exists()


def interrupt(orphan: Orphan) -> None:
    """Fail after the first line."""
    next(iter(orphan))
    raise ConnectionError


def test_an_interrupted_drain_leaves_the_file(gone: Path) -> None:
    """The store may go away again during the drain."""
    for orphan in Spool(gone.parent, "heir").orphans():
        with pytest.raises(ConnectionError), orphan:
            interrupt(orphan)
    assert gone.exists()


def test_a_full_disk_takes_all_of_a_group_or_nothing(tmp_path: Path) -> None:
    """An answer counts as safe only when its whole line is on the disk."""
    (tmp_path / "full.jsonl").symlink_to("/dev/full")
    spool = Spool(tmp_path, "full")
    with pytest.raises(OSError, match="No space left"):
        spool.append(ITEMS)
    spool.close()


def test_an_unwritable_folder_is_an_os_error(tmp_path: Path) -> None:
    """The committer distinguishes it from a store that refuses."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        Spool(tmp_path / "file", "x").append(ITEMS)


def test_a_turn_comes_back_with_its_release(tmp_path: Path) -> None:
    """The next process stores it, and only then gives its job back."""
    release = Release(
        id="j",
        token="w:1:1",  # noqa: S106 - a lease, no secret
        queue="q",
        state="snoozed",
        wait_ms=0,
        counted=0,
        refused=0,
        failed=0,
        attempt="{}",
        chain=1,
        to="nightmill:queue:b:other",
    )
    going = Continuation(turn=TURN, release=release)
    spool = Spool(tmp_path, "gone")
    spool.append([Spooled(continuation=going)])
    spool.close()
    for orphan in Spool(tmp_path, "heir").orphans():
        with orphan:
            (item,) = orphan
            assert item.continuation == going
