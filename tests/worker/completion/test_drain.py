"""A store that goes away while an orphan spool is drained: each row is stored and counted once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from nightmill.errors import StoreUnavailableError
from nightmill_worker.completion import committer
from nightmill_worker.completion.committer import Committer
from nightmill_worker.completion.spool import Spool
from nightmill_worker.events import Event, SpoolDamaged
from nightmill_worker.group_events import RowsCommitted
from tests.worker.completion.test_spool import ITEMS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    from nightmill.records.result import Result


class Leaving:
    """A store that takes one group of rows at each visit."""

    def __init__(self) -> None:
        """Start without rows."""
        self.rows: list[str] = []
        self._left = 0

    async def probe(self) -> None:
        """Be there."""
        self._left = 1

    async def record_all(self, rows: Sequence[Result], *_: object) -> int:
        """Take one group, then fail."""
        if not self._left:
            raise StoreUnavailableError("away again")
        self._left = 0
        self.rows += [row.job_id for row in rows]
        return len(rows)


class Marks:
    """Of the scripts the one that marks."""

    async def renew(self, _: object) -> None:
        """Do nothing."""


async def test_rows_of_an_orphan_are_counted_once_when_the_store_goes_away_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next try begins after the groups that are stored; damaged lines are still set aside."""
    monkeypatch.setattr(committer, "ROWS", 1)
    orphan = Spool(tmp_path, "gone")
    orphan.append(ITEMS)
    orphan.close()
    path = tmp_path / "gone.jsonl"
    path.write_bytes(b"torn\n" + path.read_bytes())
    store, heard = Leaving(), list[Event]()
    one = Committer(
        cast("Any", store),
        cast("Any", Marks()),
        Spool(tmp_path, "heir"),
        heard.append,
        done=lambda _: None,
        releases=cast("Any", None),
    )
    assert [await one._return() for _ in ITEMS] == [False, False, True]
    committed = [
        row.job_id for each in heard if isinstance(each, RowsCommitted) for row in each.rows
    ]
    assert committed == store.rows == [item.finish.id for item in ITEMS if item.finish]
    assert [each.lines for each in heard if isinstance(each, SpoolDamaged)] == [1]
    assert path.with_suffix(".damaged").read_bytes() == b"torn\n"
    assert not path.exists()
    assert one._drained == {}
