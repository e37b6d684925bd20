"""Check the input of a command: a file whole before anything is enqueued, a stream line by line.

Bad rows are printed on stderr. With --skip-bad they go to a side file instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec

from nightmill.cli.file_names import file_of
from nightmill.cli.terminal import echo
from nightmill.enqueue.prepare import batch_for
from nightmill.errors import SourceError
from nightmill.reports.progress import counted
from nightmill.safety import private
from nightmill.sources import (
    Line,
    Rejected,
    check_source,
    checked_before,
    content_of,
    plain_name,
    read_rejects,
    read_source,
    without_duplicates,
)

if TYPE_CHECKING:
    from nightmill.params import Defaults
    from nightmill.settings import Settings
    from nightmill.sources import Source, Summary


def batch_name(source: Source, given: str | None, *, rehearsal: bool) -> str:
    """Return the name of the batch that `source` makes: `given`, else the file's stem.

    A rehearsal has a batch of its own, NAME@rehearsal.
    Raises SourceError for a stream without a given name, and InvalidParamsError for a bad name.
    """
    if given is None and source.once:
        raise SourceError(f"{source} gives a batch no name: add --batch NAME")
    name = plain_name(source.location).replace(":", "-") if given is None else given
    return batch_for(name, rehearsal=rehearsal) or name


@contextmanager
def unless_fed_before(
    source: Source,
    defaults: Defaults,
    batch: str,
    settings: Settings,
    checked: AbstractContextManager[Summary],
) -> Iterator[Summary]:
    """Yield the summary of a file: of `checked`, its check, unless `batch` was fed with it last.

    What was fed last was checked then, and is not read again.
    """
    content = content_of(source, defaults)
    jobs = asyncio.run(_fed_before(settings, batch, content))
    if content and jobs:
        yield checked_before(source, content, jobs)
        return
    with checked as summary:
        yield msgspec.structs.replace(summary, content=None if summary.rejected else content)


async def _fed_before(settings: Settings, batch: str, content: str | None) -> int | None:
    """Return how many jobs a source of this content gave, if `batch` was fed with it last."""
    if content is None or private.missing(settings.store_at):
        return None
    from nightmill.store import ResultStore  # noqa: PLC0415 - optional extra

    async with ResultStore.open(settings.store_at) as store:
        known = await store.known(batch)
    if known is None or known.content != content:
        return None
    fed, _, _ = (known.source or "").partition(":")  # the total also has jobs of other sources
    return int(fed) if fed.isdecimal() else None


@contextmanager
def checked_source(
    source: Source, defaults: Defaults, batch: str, *, skip_bad: bool
) -> Iterator[Summary]:
    """Yield the summary of a checked file; `read_checked` reads its lines within the block.

    With `skip_bad`, bad rows go to a side file that is named after `batch`. Raises SourceError
    for a source that cannot be read, and for bad rows unless `skip_bad`.
    """
    with TemporaryDirectory(prefix="nightmill-") as folder:
        summary = check_source(source, defaults, ids=Path(folder) / "ids.db")
        _report(summary, _side_path(batch, source) if skip_bad else None)
        yield summary


def read_stream(
    source: Source, defaults: Defaults, *, skip_bad: str | None
) -> Iterator[Line | Rejected]:
    """Yield the lines of a stream; the second line with an id is Rejected.

    With `skip_bad`, the batch's name, bad rows go to the side file of that name and are not
    yielded.
    """
    lines = without_duplicates(read_source(source, defaults))
    return lines if skip_bad is None else _without_rejects(lines, _side_path(skip_bad, source))


def _report(summary: Summary, side: Path | None) -> None:
    """Print a file's warnings and bad rows. Raises SourceError when it cannot be used."""
    for warned in summary.warnings:
        echo(f"warning: {warned.line()}", err=True)
    if not summary.rejected:
        return
    if side is not None and summary.jobs:
        _write_rejects(read_rejects(summary), side)
        _warn_of_skipped(summary.rejected, side)
        return
    for line in summary.mistakes.lines(summary.jobs + summary.rejected):
        echo(f"{summary.source}: {line}", err=True)
    some = f"{summary.rejected:,} of {summary.jobs + summary.rejected:,} rows"
    fix = "correct them, or skip them with --skip-bad" if summary.jobs else "correct them"
    raise SourceError(f"{summary.source}: {some} cannot be jobs, nothing was enqueued; {fix}")


def _without_rejects(lines: Iterable[Line | Rejected], side: Path) -> Iterator[Line]:
    """Yield the good lines of a stream; write the bad ones to `side` when the stream ends."""
    rejects: list[Rejected] = []
    for line in lines:
        if isinstance(line, Line):
            yield line
        else:
            rejects.append(line)
    if rejects:
        _write_rejects(rejects, side)
        _warn_of_skipped(len(rejects), side)


def require_apart(source: Source, written: str | Path) -> None:
    """Raise SourceError for a file that a command would write into its own source."""
    if source.once or str(written) == "-" or "://" in f"{source.location} {written}":
        return
    given, path = Path(source.location).resolve(), Path(written).resolve()
    if path == given:
        raise SourceError(f"{written}: this is the source itself; give another output")
    inside = path.relative_to(given).parts if path.is_relative_to(given) else (".",)
    if not any(part.startswith(".") for part in inside):  # hidden files are no jobs
        problem = f"it is in the source {source}, and would be a job of the next run"
        raise SourceError(f"{written}: {problem}; give an output outside of it")


def _side_path(batch: str, source: Source) -> Path:
    side = file_of(batch, ".rejected.jsonl")
    require_apart(source, side)
    return side


def _warn_of_skipped(count: int, side: Path) -> None:
    skipped = counted(count, "bad row")
    echo(f"warning: {skipped} skipped; see {side} for the reasons", err=True)


def reject_fields(rejected: Rejected) -> dict[str, object]:
    """Return a bad row as the JSON object of side files and of --dry-run --json."""
    return {
        "line": rejected.number,
        "field": rejected.error.field,
        "problem": rejected.error.problem,
        "snippet": rejected.snippet,
    }


def _write_rejects(rejects: Iterable[Rejected], side: Path) -> None:
    """Write one JSON line for each bad row."""
    try:
        with side.open("wb") as file:
            for rejected in rejects:
                file.write(msgspec.json.encode(reject_fields(rejected)) + b"\n")
    except OSError as error:
        raise SourceError(f"{side}: cannot be written: {error.strerror}") from None
