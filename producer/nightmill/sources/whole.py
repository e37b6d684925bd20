"""A source is checked whole before anything of it is enqueued, in flat memory.

The check leaves its findings in a SQLite file: every id with its line, and every rejected line
with its reason, duplicates included. The feed's second reading goes by that same table, so it
skips the very lines that were reported.
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
from nightmill.sources.source import Source, read_source

SHOWN: Final = 20
"""Rejected lines that a summary carries; `read_rejects` gives all."""

CHUNK: Final = 1000
"""Lines that go into the table at once."""

# A temporary file that nobody reads after a crash: no journal, no waiting for the disk.
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
    """A warning: how many lines earned it, and the first of them (1-based)."""

    text: str
    count: int
    first: int


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a file holds: jobs that can be fed, rejected lines (the first SHOWN), warnings.

    `ids` is the SQLite file that `read_rejects` and `read_checked` go by; the caller removes it.
    """

    source: Source
    ids: Path
    jobs: int
    rejected: int
    shown: tuple[Rejected, ...]
    warnings: tuple[Warned, ...]


def check_source(
    source: Source,
    defaults: Defaults,
    *,
    ids: Path,
    see: Callable[[Line], None] = lambda _: None,
) -> Summary:
    """Read the whole of `source` and say what it holds; `ids` is the SQLite file to leave behind.

    `see` is shown every job. Bad lines raise nothing: the caller decides. Raises SourceError for
    a source that cannot be read, is binary, or has no line at all.
    """
    ids.unlink(missing_ok=True)
    warnings: dict[str, Warned] = {}
    try:
        total, rejected = _fill(ids, read_source(source, defaults), warnings, see)
    except sqlite3.Error as error:
        raise SourceError(f"{ids}: the table of ids cannot be written: {error}") from None
    if not total:
        raise SourceError(f"{source}: no jobs in it")
    summary = Summary(
        source=source,
        ids=ids,
        jobs=total - rejected,
        rejected=rejected,
        shown=(),
        warnings=tuple(warnings.values()),
    )
    return msgspec.structs.replace(summary, shown=tuple(islice(read_rejects(summary), SHOWN)))


def read_rejects(summary: Summary) -> Iterator[Rejected]:
    """Yield every rejected line of a checked file, in order."""
    with closing(sqlite3.connect(summary.ids)) as db:
        for number, field, problem, snippet in db.execute(_ALL_REJECTS):
            error = InvalidParamsError(field, problem, line=number)
            yield Rejected(number=number, error=error, snippet=snippet)


def read_checked(summary: Summary, defaults: Defaults) -> Iterator[Line]:
    """Yield the jobs of a checked file, without the lines that its check rejected.

    Raises SourceError when the file no longer holds what was checked.
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
    see: Callable[[Line], None],
) -> tuple[int, int]:
    """Put every line into the table; return how many there are and how many are rejected."""
    with closing(sqlite3.connect(ids)) as db:
        db.executescript(_SCHEMA)
        total = 0
        while chunk := [_noted(line, warnings, see) for line in islice(lines, CHUNK)]:
            total += len(chunk)
            _record(db, chunk)
        db.commit()
        (rejected,) = db.execute(_COUNT_REJECTS).fetchone()
    return total, rejected


def _noted(
    line: Line | Rejected, warnings: dict[str, Warned], see: Callable[[Line], None]
) -> tuple[int, str] | Rejected:
    """Count a line's warnings, and keep of it what the table needs (never its body)."""
    if isinstance(line, Rejected):
        return line
    see(line)
    for text in line.warnings:
        seen = warnings.get(text) or Warned(text=text, count=0, first=line.number)
        warnings[text] = msgspec.structs.replace(seen, count=seen.count + 1)
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
