"""The rights to spooled answers: they are for the worker's own user."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightmill_worker.completion.spool import Spool
from tests.worker.completion.test_spool import ITEMS


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """Run with the umask of most systems."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    """Return the rights to a path."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("existing", [False, True])
def test_a_spool_and_what_is_set_aside_are_private(tmp_path: Path, *, existing: bool) -> None:
    """A damaged line may hold an answer, and its file was readable for all users."""
    folder = tmp_path / "spool"
    if existing:
        folder.mkdir(0o755)
    spool = Spool(folder, "gone")
    spool.append(ITEMS)
    path = folder / "gone.jsonl"
    assert (mode(folder), mode(path)) == (0o700, 0o600)
    spool.close()
    path.write_bytes(b"damaged\n" + path.read_bytes())
    for orphan in Spool(folder, "heir").orphans():
        with orphan:
            assert len(list(orphan)) == len(ITEMS)
    assert mode(folder / "gone.damaged") == 0o600
