"""Find duplicate ids in a stream. The ids are kept on disk: there may be ten million."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing

from nightmill.errors import InvalidParamsError
from nightmill.sources.line import Line, Rejected


def without_duplicates(lines: Iterable[Line | Rejected]) -> Iterator[Line | Rejected]:
    """Yield each line; one whose id came before is Rejected."""
    with closing(UniqueIds()) as ids:
        for line in lines:
            yield ids.check(line)


class UniqueIds:
    """The ids so far, in a temporary SQLite table."""

    def __init__(self) -> None:
        """Open an empty table. Only the thread that opens it may use it."""
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("CREATE TABLE ids (custom_id TEXT PRIMARY KEY) WITHOUT ROWID")

    def check(self, line: Line | Rejected) -> Line | Rejected:
        """Return `line`, or a Rejected line when its id came before."""
        if isinstance(line, Rejected):
            return line
        added = self._db.execute("INSERT OR IGNORE INTO ids VALUES (?)", (line.custom_id,))
        if added.rowcount:
            return line
        problem = f"{line.custom_id!a:.60} was used before; each needs its own"
        error = InvalidParamsError("custom_id", problem, line=line.number)
        return Rejected(number=line.number, error=error, snippet="")

    def close(self) -> None:
        """Delete the table."""
        self._db.close()
