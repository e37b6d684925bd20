"""The input of a command: a file is checked whole before it is used, a stream as it comes.

What is wrong with it goes to stderr, a line each; `--skip-bad` puts it in a side file instead.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec
import typer

from nightmill.errors import InvalidParamsError, SourceError
from nightmill.intake import check_batch_name
from nightmill.sources import Line, Rejected, check_file, is_stream, read_jsonl, read_rejects

if TYPE_CHECKING:
    from nightmill.params import Defaults
    from nightmill.sources import Summary


def batch_name(path: Path, given: str | None) -> str:
    """Return the name of the batch that `path` makes: the one given, else the file's stem.

    Raises SourceError for a stream, which has no name to give, and InvalidParamsError.
    """
    if given is None and is_stream(path):
        raise SourceError(f"{path} gives a batch no name: add --batch NAME")
    if path.is_dir():
        raise SourceError(f"{path}: is a directory; give a file of JSON Lines")
    name = path.stem.replace(":", "-") if given is None else given
    check_batch_name(name)
    return name


@contextmanager
def checked_source(
    path: Path, defaults: Defaults, batch: str, *, skip_bad: bool, told_as: Path | None = None
) -> Iterator[Summary]:
    """Yield what the file at `path` holds; `read_checked` gives its lines within the block.

    With `skip_bad`, the bad ones go to a side file that is named after `batch`. What is wrong is
    told of `told_as`, when the file is only a copy of that.
    Raises SourceError for a file that cannot be read or, unless `skip_bad`, has bad lines.
    """
    with TemporaryDirectory(prefix="nightmill-") as folder:
        summary = check_file(path, defaults, ids=Path(folder) / "ids.db")
        _tell(summary, told_as or path, _side_path(batch) if skip_bad else None)
        yield summary


def read_stream(
    path: Path, defaults: Defaults, *, skip_bad: str | None
) -> Iterator[Line | Rejected]:
    """Yield the lines of a stream ("-" is standard input); an id that came before is Rejected.

    `skip_bad` names the batch after whose side file the bad ones go, None lets them through.
    """
    lines = _each_once(read_jsonl(path, defaults))
    return lines if skip_bad is None else _without_rejects(lines, _side_path(skip_bad))


def _tell(summary: Summary, source: Path, side: Path | None) -> None:
    """Report a file's warnings and bad lines. Raises SourceError when it cannot be used."""
    for warned in summary.warnings:
        times = f"{warned.count:,} lines, first line {warned.first}"
        typer.echo(f"warning: {warned.text} ({times})", err=True)
    if not summary.rejected:
        return
    if side is not None and summary.jobs:
        _write_rejects(read_rejects(summary), side)
        _tell_left_out(summary.rejected, side)
        return
    for rejected in summary.shown:
        typer.echo(f"{source}: {rejected.error}", err=True)
    if summary.rejected > len(summary.shown):
        typer.echo(f"... and {summary.rejected - len(summary.shown):,} more", err=True)
    some = f"{summary.rejected:,} of {summary.jobs + summary.rejected:,} lines"
    fix = "correct them, or leave them out with --skip-bad" if summary.jobs else "correct them"
    raise SourceError(f"{source}: {some} cannot be jobs, nothing was enqueued; {fix}")


def _each_once(lines: Iterable[Line | Rejected]) -> Iterator[Line | Rejected]:
    """Let the first line of each id through; the ids are in a table that leaves with us."""
    with closing(sqlite3.connect("", isolation_level=None)) as seen:
        seen.execute("CREATE TABLE ids (custom_id TEXT PRIMARY KEY) WITHOUT ROWID")
        for line in lines:
            if isinstance(line, Line):
                added = seen.execute("INSERT OR IGNORE INTO ids VALUES (?)", (line.custom_id,))
                yield line if added.rowcount else _duplicate(line)
            else:
                yield line


def _duplicate(line: Line) -> Rejected:
    problem = f"{line.custom_id!a:.60} was used before; each needs its own"
    error = InvalidParamsError("custom_id", problem, line=line.number)
    return Rejected(number=line.number, error=error, snippet="")


def _without_rejects(lines: Iterable[Line | Rejected], side: Path) -> Iterator[Line]:
    """Yield the good lines of a stream; the bad ones go to the file `side` at its end."""
    rejects: list[Rejected] = []
    for line in lines:
        if isinstance(line, Line):
            yield line
        else:
            rejects.append(line)
    if rejects:
        _write_rejects(rejects, side)
        _tell_left_out(len(rejects), side)


def _side_path(batch: str) -> Path:
    return Path(f"{batch}.rejected.jsonl")


def _tell_left_out(count: int, side: Path) -> None:
    typer.echo(f"warning: {count:,} bad lines are left out; {side} tells which and why", err=True)


def _write_rejects(rejects: Iterable[Rejected], side: Path) -> None:
    """Write a JSON line for each: the line's number, the field, the problem, how it begins."""
    try:
        with side.open("wb") as file:
            for rejected in rejects:
                told = {
                    "line": rejected.number,
                    "field": rejected.error.field,
                    "problem": rejected.error.problem,
                    "snippet": rejected.snippet,
                }
                file.write(msgspec.json.encode(told) + b"\n")
    except OSError as error:
        raise SourceError(f"{side}: cannot be written: {error.strerror}") from None
