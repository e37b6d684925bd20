"""Check a whole source before any job of it is enqueued.

The check writes a SQLite file: every id with its line, and every rejected line with its reason,
duplicates included. The feed then reads the source again and skips the rejected lines in that
file, so it skips exactly the lines that were reported. Memory does not grow with the source.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from nightmill.errors import InvalidParamsError, SourceError
from nightmill.params import Defaults
from nightmill.sources.line import Line, Rejected
from nightmill.sources.mistakes import Mistakes, mistakes_of
from nightmill.sources.source import Source, read_source

CHUNK: Final = 1000
"""Lines that are written to the table at once."""

# The file is not used after a crash, so it needs no journal and no sync to the disk.
_SCHEMA: Final = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -32768;
CREATE TABLE ids (custom_id TEXT PRIMARY KEY, line INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE rejects (line INTEGER PRIMARY KEY, field TEXT, problem TEXT, snippet TEXT);
"""
_ADD_ID: Final = "INSERT OR IGNORE INTO ids VALUES (?, ?)"
_ADD_REJECT: Final = "INSERT INTO rejects VALUES (?, ?, ?, ?)"
_FIRST_LINE: Final = "SELECT line FROM ids WHERE custom_id = ?"
_COUNT_REJECTS: Final = "SELECT count(*) FROM rejects"
_ALL_REJECTS: Final = "SELECT line, field, problem, snippet FROM rejects ORDER BY line"


class Warned(msgspec.Struct, frozen=True, kw_only=True):
    """A warning, once for all lines that have it."""

    text: str
    count: int
    """Lines that have it."""
    first: int
    """The first of these lines, from 1."""

    def line(self) -> str:
        """Return it as one line of text."""
        more = f"{self.count:,} lines, first " if self.count > 1 else ""
        return f"{self.text} ({more}line {self.first})"


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a check."""

    source: Source
    ids: Path | None
    """The SQLite file, which `read_rejects` and `read_checked` read; the caller removes it.

    None: all of the source was checked before, and no line of it was rejected.
    """
    jobs: int
    """Lines that can be fed."""
    rejected: int
    """Lines that cannot."""
    mistakes: Mistakes
    """Why they cannot; `read_rejects` yields each."""
    warnings: tuple[Warned, ...]
    content: str | None = None
    """Its content_of, when all of its lines are good."""


def check_source(
    source: Source,
    defaults: Defaults,
    *,
    ids: Path,
    on_line: Callable[[Line], None] = lambda _: None,
) -> Summary:
    """Read all of `source` and return what it holds; `ids` is the SQLite file to write.

    `on_line` is called with every good line. A bad line raises nothing: the caller decides. Raises
    SourceError when the source cannot be read, is binary, or has no lines.
    """
    ids.unlink(missing_ok=True)
    warnings: dict[str, Warned] = {}
    try:
        total, rejected = _fill(ids, read_source(source, defaults), warnings, on_line)
    except sqlite3.Error as error:
        raise SourceError(f"{ids}: the table of ids cannot be written: {error}") from None
    if not total:
        raise SourceError(f"{source}: no jobs in it")
    summary = Summary(
        source=source,
        ids=ids,
        jobs=total - rejected,
        rejected=rejected,
        mistakes=Mistakes(shown=(), others=0),
        warnings=tuple(warnings.values()),
    )
    return msgspec.structs.replace(summary, mistakes=mistakes_of(read_rejects(summary)))


def checked_before(source: Source, content: str, jobs: int) -> Summary:
    """Return the summary of a source whose content was checked before and gave `jobs` jobs."""
    return Summary(
        source=source,
        ids=None,
        jobs=jobs,
        rejected=0,
        mistakes=Mistakes(shown=(), others=0),
        warnings=(),
        content=content,
    )


def read_rejects(summary: Summary) -> Iterator[Rejected]:
    """Yield every rejected line of a checked source, in order."""
    if summary.ids is None:
        return
    with closing(sqlite3.connect(summary.ids)) as db:
        for number, field, problem, snippet in db.execute(_ALL_REJECTS):
            error = InvalidParamsError(field, problem, line=number)
            yield Rejected(number=number, error=error, snippet=snippet)


def read_checked(summary: Summary, defaults: Defaults) -> Iterator[Line]:
    """Yield the jobs of a checked source, without the lines that its check rejected.

    Raises SourceError when a line is bad that was good in the check: the source has changed.
    """
    rejects = read_rejects(summary)
    skip = next(rejects, None)
    for line in read_source(summary.source, defaults):
        if skip is not None and line.number == skip.number:
            skip = next(rejects, None)
        elif isinstance(line, Rejected):
            raise SourceError(f"{summary.source}: changed since it was checked: {line.error}")
        else:
            yield line


def _fill(
    ids: Path,
    lines: Iterator[Line | Rejected],
    warnings: dict[str, Warned],
    on_line: Callable[[Line], None],
) -> tuple[int, int]:
    """Write every line to the table; return the number of lines and of rejected ones."""
    with closing(sqlite3.connect(ids)) as db:
        db.executescript(_SCHEMA)
        total = 0
        while chunk := [_entry(line, warnings, on_line) for line in islice(lines, CHUNK)]:
            total += len(chunk)
            _record(db, chunk)
        db.commit()
        (rejected,) = db.execute(_COUNT_REJECTS).fetchone()
    return total, rejected


def _entry(
    line: Line | Rejected, warnings: dict[str, Warned], on_line: Callable[[Line], None]
) -> tuple[int, str] | Rejected:
    """Count a line's warnings, and return what the table needs of it, without its body."""
    if isinstance(line, Rejected):
        return line
    on_line(line)
    for text in line.warnings:
        before = warnings.get(text) or Warned(text=text, count=0, first=line.number)
        warnings[text] = msgspec.structs.replace(before, count=before.count + 1)
    return line.number, line.custom_id


def _record(db: sqlite3.Connection, chunk: list[tuple[int, str] | Rejected]) -> None:
    named = [item for item in chunk if isinstance(item, tuple)]
    rejects = [
        (item.number, item.error.field, item.error.problem, item.snippet)
        for item in chunk
        if isinstance(item, Rejected)
    ]
    before = db.total_changes
    db.executemany(_ADD_ID, [(custom_id, number) for number, custom_id in named])
    if db.total_changes - before < len(named):
        rejects += _duplicates(db, named)
    db.executemany(_ADD_REJECT, rejects)


def _duplicates(
    db: sqlite3.Connection, named: list[tuple[int, str]]
) -> Iterator[tuple[int, str, str, str]]:
    for number, custom_id in named:
        (first,) = db.execute(_FIRST_LINE, (custom_id,)).fetchone()
        if first != number:
            problem = f"{custom_id!a:.60} was used on line {first} already; each needs its own"
            yield number, "custom_id", problem, ""
