"""`nightmill enqueue`: feed a file or a stream to the workers of a Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nightmill.cli.accept_options import AcceptOptions
from nightmill.cli.grouped import grouped
from nightmill.cli.limit_options import LimitOptions, Weight
from nightmill.cli.options import FeedOptions, PlaceOptions, Source
from nightmill.cli.source_options import SourceOptions
from nightmill.cli.terminal import echo
from nightmill.errors import InvalidParamsError, SourceError
from nightmill.reports.progress import counted

if TYPE_CHECKING:
    from nightmill import sources
    from nightmill.enqueue.changes import Changed
    from nightmill.enqueue.fed import Fed
    from nightmill.records.acceptance import Accepted
    from nightmill.records.limits import Change
    from nightmill.settings import Settings

    Read = Callable[[], Iterator[sources.Line | sources.Rejected]]


@dataclass(frozen=True, slots=True)
class Order:
    """What to feed: a batch, its limits, what it accepts, its webhook's URL.

    `twice`: its source is read twice.
    """

    batch: str
    changed: Changed | None
    limits: Change
    accepted: Accepted
    on_complete: str | None
    twice: bool


@grouped
def enqueue(  # noqa: PLR0913 - one parameter an option or group: that is typer's interface
    source: Source,
    *,
    rows: SourceOptions,
    feed: FeedOptions,
    weight: Weight = None,
    limits: LimitOptions,
    accept: AcceptOptions,
    places: PlaceOptions,
) -> None:
    """Feed prompts to the workers as a batch.

    The command ends when all jobs are in Redis. A file is checked whole first: nothing is enqueued
    while a row is bad. After an interruption, run the same command again: jobs that are queued or
    stored are skipped.

    With --prompt, --image or --document, a template makes a job of every row. Without them, each
    row is a request: {"prompt": ...} and other request fields, or {"custom_id": ..., "params":
    {...}}.

    For example:

    nightmill enqueue prompts.jsonl

    nightmill enqueue reviews.csv --prompt 'Tag: {{ text }}' --id id --dry-run

    nightmill enqueue pdf/ --document path --prompt 'Who signed?' --set top_k=9

    nightmill enqueue s3://b/rows.parquet --prompt @ask.txt --system 'Be brief'

    nightmill enqueue prompts.jsonl --on-truncated fail --on-refusal fail

    nightmill enqueue backfill.jsonl --weight 1 --budget-usd 40 --expires 24h

    nightmill enqueue reviews.csv --prompt 'Tag: {{ text }}' --schema tag.json

    zcat rows.gz | nightmill enqueue - --format csv --batch b --prompt '{{ q }}'
    """
    from nightmill.cli.checking import batch_name  # noqa: PLC0415 - `--help` stays fast
    from nightmill.cli.dry_run import show_jobs  # noqa: PLC0415
    from nightmill.queue.locate import with_redis  # noqa: PLC0415
    from nightmill.queue.webhooks import require_url  # noqa: PLC0415

    settings = feed.settings(places)
    change, accepted = limits.change(weight), accept.accepted()
    given = rows.source(source)
    if feed.dry_run:
        show_jobs(given, settings, as_json=feed.json)
        return
    name = batch_name(given, feed.batch, rehearsal=settings.rehearsal)
    if feed.on_complete:
        require_url(feed.on_complete)
    with (
        _opened(given, name, settings, skip_bad=feed.skip_bad) as read,
        with_redis(settings) as served,
    ):
        order = Order(
            name,
            feed.changed_of(settings),
            change,
            accepted,
            feed.on_complete,
            twice=not given.once,
        )
        fed = asyncio.run(_feed(served, order, read))
    echo(summary(name, fed))


@contextmanager
def _opened(
    source: sources.Source, name: str, settings: Settings, *, skip_bad: bool
) -> Iterator[Read]:
    """Yield a function that reads the lines of `source`; those of a file are checked before."""
    from nightmill.cli.checking import checked_source, read_stream  # noqa: PLC0415
    from nightmill.enqueue.prepare import defaults_of  # noqa: PLC0415
    from nightmill.sources import read_checked, require_streamable  # noqa: PLC0415

    defaults = defaults_of(settings)
    if source.once:
        require_streamable(source)
        yield lambda: read_stream(source, defaults, skip_bad=name if skip_bad else None)
    else:
        with checked_source(source, defaults, name, skip_bad=skip_bad) as checked:
            yield lambda: read_checked(checked, defaults)


async def _feed(settings: Settings, order: Order, read: Read) -> Fed:
    """Feed the lines that `read` yields. A file's requests are compared with the store first."""
    from nightmill.cli.live import showing  # noqa: PLC0415
    from nightmill.cli.session import open_session  # noqa: PLC0415
    from nightmill.enqueue.feeder import Feeder  # noqa: PLC0415
    from nightmill.reports.labels import NO_WORKER  # noqa: PLC0415

    name = order.batch
    async with open_session(settings) as session, AsyncExitStack() as stack:
        if order.limits:
            await session.batches.limit(name, order.limits, settings=settings)
        if order.accepted:
            await session.batches.accept(name, **order.accepted)
        feeder = Feeder(
            name,
            session.producer,
            session.batches,
            session.store,
            order.changed,
            on_complete=order.on_complete,
        )
        await stack.enter_async_context(feeder)
        if order.twice:
            await feeder.check(read())
        try:
            async with showing(session.batches, name, settings):
                fed = await feeder.feed(read(), live=not order.twice)
        except (InvalidParamsError, SourceError) as error:
            before = counted(feeder.fed.total, "job")
            raise SourceError(f"{error}; before it, {before} went in") from None
        if await session.batches.lacks_worker(name):
            echo(f"waiting: {NO_WORKER}", err=True)
        return fed


def summary(batch: str, fed: Fed) -> str:
    """Return one line that says how many jobs were fed, and how many of them are new."""
    parts = [f"{fed.new:,} new"]
    if fed.queued_already:
        parts.append(f"{fed.queued_already:,} queued already")
    if fed.stored_already:
        parts.append(f"{fed.stored_already:,} stored already")
    if fed.cut_short:
        parts.append("the batch ended before its source")
    if fed.changed:
        parts.append(f"{fed.changed:,} changed")
    return f'fed {counted(fed.total, "job")} as batch "{batch}": {", ".join(parts)}'
