"""Ids of a stream, each of which may come once: on disk, since there may be ten million."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing

from nightmill.errors import InvalidParamsError
from nightmill.sources.line import Line, Rejected


def each_once(lines: Iterable[Line | Rejected]) -> Iterator[Line | Rejected]:
    """Let the first line of each id through; a later one is Rejected."""
    with closing(Seen()) as seen:
        for line in lines:
            yield seen.judge(line)


class Seen:
    """The ids so far, in a table that leaves with it."""

    def __init__(self) -> None:
        """Open an empty table, used by the thread that makes it."""
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("CREATE TABLE ids (custom_id TEXT PRIMARY KEY) WITHOUT ROWID")

    def judge(self, line: Line | Rejected) -> Line | Rejected:
        """Return `line`, or why it cannot be a job: its id came before."""
        if isinstance(line, Rejected):
            return line
        added = self._db.execute("INSERT OR IGNORE INTO ids VALUES (?)", (line.custom_id,))
        if added.rowcount:
            return line
        problem = f"{line.custom_id!a:.60} was used before; each needs its own"
        error = InvalidParamsError("custom_id", problem, line=line.number)
        return Rejected(number=line.number, error=error, snippet="")

    def close(self) -> None:
        """Let the table go."""
        self._db.close()
