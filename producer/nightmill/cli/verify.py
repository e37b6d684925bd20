"""`nightmill verify`: check that every accepted job has its one row, or report what is wrong."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
import typer

from nightmill.cli import options
from nightmill.cli.grouped import grouped
from nightmill.cli.source_options import SourceOptions
from nightmill.cli.terminal import echo, echo_json
from nightmill.errors import BatchNotFoundError, SourceError
from nightmill.reports.labels import VerifyLabel
from nightmill.reports.progress import counted

if TYPE_CHECKING:
    from nightmill.cli.session import Session
    from nightmill.maintenance.verify import Verdict
    from nightmill.params import Defaults
    from nightmill.settings import Settings
    from nightmill.sources import Line, Source, Summary
    from nightmill.store import ResultStore


class Given(NamedTuple):
    """A source: `read` yields its lines, as often as it is called; `content` is its content_of."""

    read: Callable[[], Iterable[Line]]
    content: str | None


@grouped
def verify(  # noqa: PLR0913 - one parameter an option: that is typer's interface
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="The batch to check.")],
    *,
    source: options.FedSource = None,
    rows: SourceOptions,
    repair: Annotated[
        bool, typer.Option("--repair", help="Feed missing jobs again; needs --source.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    model: options.Model = None,
    max_tokens: options.MaxTokens = None,
    redis_url: options.RedisUrl = None,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Check that every accepted job has exactly one stored result.

    Exits with 0 when that is so and with 1 when it is not. With --source, give the same options as
    when the batch was fed: jobs are found by their ids, and their requests are compared. The batch
    may still run: jobs that are not finished are not missing. Calls lost in crashes are shown, too.

    For example:

    nightmill verify prompts

    nightmill verify prompts --source prompts.jsonl --repair

    nightmill verify reviews --source reviews.csv --prompt '{{ text }}' --id id
    """
    from nightmill.queue.locate import with_redis  # noqa: PLC0415 - `--help` stays fast
    from nightmill.settings import load_settings  # noqa: PLC0415

    if repair and source is None:
        raise SourceError("--repair needs --source IN.jsonl, the file that was fed")
    loaded = load_settings(
        redis_url=redis_url,
        store_url=store_url,
        data_dir=data_dir,
        model=model,
        max_tokens=max_tokens,
    )
    opened = nullcontext() if source is None else _opened(rows.source(source), loaded, batch)
    with opened as given, with_redis(loaded) as settings:
        verdict = asyncio.run(_verify(settings, batch, given, repair=repair))
    if json:
        echo_json(_as_json(batch, verdict))
    else:
        echo("\n".join(_report(batch, verdict)))
    if not verdict.holds:
        raise typer.Exit(1)


@contextmanager
def _opened(source: Source, settings: Settings, batch: str) -> Iterator[Given]:
    """Yield a file's jobs. What the batch was fed with last is not checked again."""
    from nightmill.cli.checking import unless_fed_before  # noqa: PLC0415 - `--help` stays fast
    from nightmill.enqueue.prepare import defaults_of  # noqa: PLC0415
    from nightmill.sources import read_checked  # noqa: PLC0415

    if source.once:
        raise SourceError(f"{source} can be read only once: give the file that was fed")
    defaults = defaults_of(settings).unexamined()
    checking = _checked(source, defaults)
    with unless_fed_before(source, defaults, batch, settings, checking) as checked:
        yield Given(lambda: read_checked(checked, defaults), checked.content)


@contextmanager
def _checked(source: Source, defaults: Defaults) -> Iterator[Summary]:
    """Yield the summary of a file; its bad rows are only counted, for they were never fed."""
    from nightmill.sources import check_source  # noqa: PLC0415 - `--help` stays fast

    with TemporaryDirectory(prefix="nightmill-") as folder:
        checked = check_source(source, defaults, ids=Path(folder) / "ids.db")
        if checked.rejected:
            bad = counted(checked.rejected, "bad row")
            echo(f"{source}: {bad} skipped", err=True)
        yield checked


async def _verify(settings: Settings, batch: str, given: Given | None, *, repair: bool) -> Verdict:
    """Check the batch; when something is missing and `repair` is given, feed it and check again."""
    from nightmill.cli.session import open_session  # noqa: PLC0415
    from nightmill.maintenance.verify import verify as check  # noqa: PLC0415

    async with open_session(settings) as session:
        store = await session.stored(batch)
        await _require(session, store, batch)
        verdict = await check(
            batch, store, session.batches, await _lines(session, store, batch, given), settings
        )
        if verdict.holds or not repair or given is None:
            return verdict
        for problem in verdict.problems:
            echo(f"found: {problem}", err=True)
        await _repair(session, batch, given)
        return await check(batch, store, session.batches, given.read(), settings)


async def _require(session: Session, store: ResultStore, batch: str) -> None:
    """Raise BatchNotFoundError unless Redis or the store knows `batch`."""
    in_store = (*await store.batches(), *await store.all_known())
    known = {name for name in (*await session.batches.names(), *in_store) if name}
    if batch not in known:
        names = ", ".join(sorted(known)) or "none"
        raise BatchNotFoundError(f'no batch "{batch}"; batches: {names}')


async def _repair(session: Session, batch: str, given: Given) -> None:
    """Feed the source again. Jobs that are stored or queued are skipped."""
    from nightmill.enqueue.feeder import Feeder  # noqa: PLC0415

    async with Feeder(
        batch, session.producer, session.batches, session.store, "keep", repairs=True
    ) as feeder:
        fed = await feeder.feed(given.read())
    echo(f'repaired: {counted(fed.new, "job")} of batch "{batch}" fed again', err=True)


async def _lines(
    session: Session, store: ResultStore, batch: str, given: Given | None
) -> Iterable[Line] | None:
    """Return the lines to compare; None: they and no others are known to have their rows."""
    from nightmill.enqueue.fed_whole import FedWhole  # noqa: PLC0415 - `--help` stays fast

    if given is None:
        return None
    whole = FedWhole(batch, given.content)
    drained = (await session.batches.counts(batch)).drained
    return None if drained and await whole.stored(store) else given.read()


def _report(batch: str, verdict: Verdict) -> list[str]:
    """Return the verdict as lines of text."""
    what = "no job is missing" if verdict.holds else "something is wrong"
    numbers = f"{verdict.rows:,} {VerifyLabel.STORED}, {verdict.waiting:,} {VerifyLabel.UNFINISHED}"
    lines = [f"{batch}: {what} ({numbers})"]
    lines += [f"  {problem}" for problem in verdict.problems]
    if verdict.examples:
        more = ", ..." if verdict.missing > len(verdict.examples) else ""
        lines.append(f"  {VerifyLabel.MISSING}: {', '.join(verdict.examples)}{more}")
        again = f"nightmill verify {shlex.quote(batch)} --source IN.jsonl --repair"
        lines.append(f"  {VerifyLabel.FIX}: {again}")
    if verdict.others:
        lines.append(f"  {VerifyLabel.OTHERS}: {verdict.others:,}, which the source does not have")
    if verdict.lost_calls:
        lost = f"{verdict.lost_calls:,}, about ${verdict.lost_dollars:.4f}"
        lines.append(f"  {VerifyLabel.LOST_CALLS}: {lost}")
    return lines


def _as_json(batch: str, verdict: Verdict) -> bytes:
    fields = {"batch": batch, "holds": verdict.holds} | msgspec.structs.asdict(verdict)
    return msgspec.json.encode(fields)
