"""`nightmill enqueue`: feed a file or a stream to the workers, wherever they run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from nightmill.cli import options
from nightmill.cli.grouped import grouped
from nightmill.cli.inputs import Shaping
from nightmill.cli.limiting import Limiting, Weight
from nightmill.errors import InvalidParamsError, SettingsError, SourceError

if TYPE_CHECKING:
    from nightmill.enqueue.feeder import Changed, Fed
    from nightmill.records.limits import Change
    from nightmill.settings import Settings
    from nightmill.sources import Line, Rejected, Source

    Read = Callable[[], Iterator[Line | Rejected]]


@dataclass(frozen=True, slots=True)
class Order:
    """What to feed as: a batch, its limits, whom to tell, whether its source is read `twice`."""

    batch: str
    changed: Changed | None
    limits: Change
    on_complete: str | None
    twice: bool


@grouped
def enqueue(  # noqa: PLR0913 - one parameter an option: that is typer's interface
    source: options.Source,
    *,
    batch: options.BatchName = None,
    shaping: Shaping,
    dry_run: options.DryRun = False,
    json: options.Json = False,
    window: options.Window = None,
    skip_bad: options.SkipBad = False,
    changed: options.Changed = None,
    on_complete: options.OnComplete = None,
    weight: Weight = None,
    limiting: Limiting,
    model: options.Model = None,
    max_tokens: options.MaxTokens = None,
    redis_url: options.RedisUrl = None,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Feed prompts to the workers as a batch; stays until all is in Redis.

    A file is checked whole first: with a bad line in it, nothing is enqueued. Run it again after
    an interruption: what is queued or stored already is not enqueued twice. With --prompt, --image
    or --document any row becomes a job; without, a row is one: {"prompt": ...} and other request
    fields, or {"custom_id": ..., "params": {...}}.

    For example:

    nightmill enqueue prompts.jsonl

    nightmill enqueue reviews.csv --prompt 'Summarise: {{ text }}' --id review --dry-run

    nightmill enqueue scans/ --document path --prompt 'Who signed this?' --set max_tokens=200

    nightmill enqueue s3://bucket/rows.parquet --prompt @prompt.txt --system 'Be brief.'

    nightmill enqueue backfill.jsonl --weight 1 --budget-usd 40 --expires 24h

    zcat rows.csv.gz | nightmill enqueue - --format csv --batch live --prompt '{{ question }}'
    """
    from nightmill.cli.checking import batch_name  # noqa: PLC0415 - `--help` stays fast
    from nightmill.cli.dry_run import show_jobs  # noqa: PLC0415
    from nightmill.queue.locate import with_redis  # noqa: PLC0415
    from nightmill.queue.webhooks import require_url  # noqa: PLC0415
    from nightmill.settings import load_settings  # noqa: PLC0415

    settings = load_settings(
        window=window,
        model=model,
        max_tokens=max_tokens,
        redis_url=redis_url,
        store_url=store_url,
        data_dir=data_dir,
    )
    change = limiting.change(weight)
    given = shaping.source(source)
    if json and not dry_run:
        raise SettingsError(options.JSON_ALONE)
    if dry_run:
        show_jobs(given, settings, as_json=json)
        return
    name = batch_name(given, batch)
    if on_complete:
        require_url(on_complete)
    with _opened(given, name, settings, skip_bad=skip_bad) as read, with_redis(settings) as served:
        order = Order(name, changed, change, on_complete, twice=not given.once)
        fed = asyncio.run(_feed(served, order, read))
    typer.echo(summary(name, fed))


@contextmanager
def _opened(source: Source, name: str, settings: Settings, *, skip_bad: bool) -> Iterator[Read]:
    """Yield what reads the lines of `source`: a file, checked, any number of times."""
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
    """Feed what `read` gives; what can be read twice is looked through before."""
    from nightmill.cli.live import showing  # noqa: PLC0415
    from nightmill.cli.session import open_session  # noqa: PLC0415
    from nightmill.enqueue.feeder import Feeder  # noqa: PLC0415

    name = order.batch
    async with open_session(settings) as session, AsyncExitStack() as stack:
        if order.limits:
            await session.batches.limit(name, order.limits, model=settings.model)
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
            async with showing(session.batches, name):
                return await feeder.feed(read(), live=not order.twice)
        except (InvalidParamsError, SourceError) as error:
            raise SourceError(f"{error}; {feeder.fed.total:,} jobs before it went in") from None


def summary(batch: str, fed: Fed) -> str:
    """Say in one line what was fed."""
    parts = [f"{fed.new:,} new"]
    if fed.queued_already:
        parts.append(f"{fed.queued_already:,} queued already")
    if fed.stored_already:
        parts.append(f"{fed.stored_already:,} stored already")
    if fed.cut_short:
        parts.append("the batch ended before its source")
    if fed.changed:
        parts.append(f"{fed.changed:,} changed")
    return f'fed {fed.total:,} jobs as batch "{batch}": {", ".join(parts)}'
