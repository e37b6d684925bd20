"""`nightmill report`: one page about a batch, for the morning after."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nightmill.cli import options
from nightmill.cli.terminal import echo
from nightmill.errors import BatchNotFoundError, ExportError, NightmillError

if TYPE_CHECKING:
    from nightmill.queue.batches import Batches
    from nightmill.records.counts import Counts
    from nightmill.reports.report import Report
    from nightmill.settings import Settings
    from nightmill.store import ResultStore

REDIS_S: Final = 5.0
"""Longest wait for what only Redis knows, seconds."""


def report(
    batch: Annotated[str, typer.Argument(metavar="BATCH", help='The batch; "" for single jobs.')],
    *,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help='HTML file, or "-".  [default: BATCH.report.html]'),
    ] = None,
    redis_url: options.RedisUrl = None,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Write one page about a batch: speed, failures, cost.

    The page is one HTML file that opens from disk and prints well. It has no script and loads
    nothing. Of a batch that runs, it has the figures so far. An existing file is replaced at the
    end.

    For example:

    nightmill report prompts -o report.html

    nightmill report prompts -o - > report.html
    """
    from nightmill.cli.file_names import file_of  # noqa: PLC0415 - `--help` stays fast
    from nightmill.export.outputs import STDOUT, opened, require_writable  # noqa: PLC0415
    from nightmill.settings import load_settings  # noqa: PLC0415

    settings = load_settings(redis_url=redis_url, store_url=store_url, data_dir=data_dir)
    out = output or file_of(batch or "single", ".report.html")
    require_writable(out)
    page = asyncio.run(_page(settings, batch)).encode()
    try:
        with opened(out) as file:
            file.write(page)
    except OSError as error:
        raise ExportError(f"{out}: cannot be written: {error.strerror}") from None
    if out != STDOUT:
        echo(f"report in {out}", err=True)


async def _page(settings: Settings, batch: str) -> str:
    from nightmill.cli.session import open_store, require_rows, require_store  # noqa: PLC0415
    from nightmill.reports.report_page import page  # noqa: PLC0415

    await require_store(settings, batch)
    async with open_store(settings) as store:
        if await store.known(batch) is None:  # a batch that was fed may have no row yet
            await require_rows(store, batch)
        return page(await _read(settings, store, batch))


async def _read(settings: Settings, store: ResultStore, batch: str) -> Report:
    """Read the report, with what Redis knows where it answers."""
    from nightmill.pricing.cost import Prices  # noqa: PLC0415
    from nightmill.queue.locate import with_redis  # noqa: PLC0415
    from nightmill.reports.report import read_report  # noqa: PLC0415

    read = partial(read_report, prices=Prices(settings.prices), version=version("nightmill"))
    async with AsyncExitStack() as stack:
        with suppress(NightmillError, TimeoutError):
            served = stack.enter_context(with_redis(settings))
            async with asyncio.timeout(REDIS_S):
                batches, counts = await _known(stack, served, batch)
            return await read(store, batches.redis, batch, counts)
    return await read(store, None, batch, None)


async def _known(
    stack: AsyncExitStack, settings: Settings, batch: str
) -> tuple[Batches, Counts | None]:
    """Return the batches of Redis, and the counts as `status` has them; None: not known there."""
    from nightmill.cli.session import open_batches  # noqa: PLC0415
    from nightmill.client.corrected import Corrections  # noqa: PLC0415

    batches = await stack.enter_async_context(open_batches(settings))
    if not batch:
        return batches, await batches.counts(batch)
    try:
        return batches, await Corrections(batches, settings, lenient=True).one(batch)
    except BatchNotFoundError:
        return batches, None
