"""The input of a command: a file is checked whole before it is used, a stream as it comes.

What is wrong with it goes to stderr, a line each; `--skip-bad` puts it in a side file instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec
import typer

from nightmill.enqueue.prepare import check_batch_name
from nightmill.errors import SourceError
from nightmill.sources import (
    Line,
    Rejected,
    check_source,
    each_once,
    plain_name,
    read_rejects,
    read_source,
)

if TYPE_CHECKING:
    from nightmill.params import Defaults
    from nightmill.sources import Source, Summary


def batch_name(source: Source, given: str | None) -> str:
    """Return the name of the batch that `source` makes: the one given, else the file's stem.

    Raises SourceError for a stream, which has no name to give, and InvalidParamsError.
    """
    if given is None and source.once:
        raise SourceError(f"{source} gives a batch no name: add --batch NAME")
    name = plain_name(source.location).replace(":", "-") if given is None else given
    check_batch_name(name)
    return name


@contextmanager
def checked_source(
    source: Source, defaults: Defaults, batch: str, *, skip_bad: bool
) -> Iterator[Summary]:
    """Yield what `source` holds; `read_checked` gives its lines within the block.

    With `skip_bad`, the bad ones go to a side file that is named after `batch`. Raises SourceError
    for a source that cannot be read or, unless `skip_bad`, has bad lines.
    """
    with TemporaryDirectory(prefix="nightmill-") as folder:
        summary = check_source(source, defaults, ids=Path(folder) / "ids.db")
        _tell(summary, _side_path(batch) if skip_bad else None)
        yield summary


def read_stream(
    source: Source, defaults: Defaults, *, skip_bad: str | None
) -> Iterator[Line | Rejected]:
    """Yield the lines of a stream ("-" is standard input); an id that came before is Rejected.

    `skip_bad` names the batch after whose side file the bad ones go, None lets them through.
    """
    lines = each_once(read_source(source, defaults))
    return lines if skip_bad is None else _without_rejects(lines, _side_path(skip_bad))


def _tell(summary: Summary, side: Path | None) -> None:
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
        typer.echo(f"{summary.source}: {rejected.error}", err=True)
    if summary.rejected > len(summary.shown):
        typer.echo(f"... and {summary.rejected - len(summary.shown):,} more", err=True)
    some = f"{summary.rejected:,} of {summary.jobs + summary.rejected:,} lines"
    fix = "correct them, or leave them out with --skip-bad" if summary.jobs else "correct them"
    raise SourceError(f"{summary.source}: {some} cannot be jobs, nothing was enqueued; {fix}")


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


def told_of(rejected: Rejected) -> dict[str, object]:
    """Return what a program is told of a bad line."""
    return {
        "line": rejected.number,
        "field": rejected.error.field,
        "problem": rejected.error.problem,
        "snippet": rejected.snippet,
    }


def _write_rejects(rejects: Iterable[Rejected], side: Path) -> None:
    """Write a JSON line for each."""
    try:
        with side.open("wb") as file:
            for rejected in rejects:
                file.write(msgspec.json.encode(told_of(rejected)) + b"\n")
    except OSError as error:
        raise SourceError(f"{side}: cannot be written: {error.strerror}") from None
