"""`nightmill prune`: delete stored results that are no longer needed."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Annotated, Final

import typer

from nightmill.cli import options
from nightmill.cli.terminal import echo
from nightmill.errors import BatchBusyError, SettingsError
from nightmill.reports.progress import counted
from nightmill.safety.visible import visible

if TYPE_CHECKING:
    from nightmill.settings import Settings

_UNITS_MS: Final = {"d": 86_400_000, "h": 3_600_000, "m": 60_000}
_AGE: Final = re.compile(rf"(\d{{1,9}})([{''.join(_UNITS_MS)}])")


def prune(  # noqa: PLR0913 - one parameter an option: that is typer's interface
    batch: Annotated[
        str | None,
        typer.Argument(metavar="[BATCH]", help="A batch; none: all batches, with --older-than."),
    ] = None,
    *,
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Only results that are older: 30d, 12h, 45m.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    redis_url: options.RedisUrl = None,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Delete stored results that are no longer needed.

    A deleted job that is enqueued again is paid for again. A batch with unfinished jobs is not
    touched. SQLite's file keeps its size; new results use the freed space.

    For example:

    nightmill prune prompts

    nightmill prune --older-than 30d --yes
    """
    from nightmill.queue.locate import with_redis  # noqa: PLC0415
    from nightmill.records.job import now_ms  # noqa: PLC0415 - `--help` stays fast
    from nightmill.settings import load_settings  # noqa: PLC0415

    if batch is None and older_than is None:
        raise SettingsError("nothing to delete: name a batch, or give --older-than 30d")
    before_ms = None if older_than is None else max(0, now_ms() - _age_ms(older_than))
    what = "all batches" if batch is None else f'batch "{batch}"'
    age = f" that ended more than {older_than} ago" if older_than else ""
    if not yes:
        typer.confirm(visible(f"Delete the results of {what}{age}?"), abort=True, err=True)
    loaded = load_settings(redis_url=redis_url, store_url=store_url, data_dir=data_dir)
    with with_redis(loaded) as settings:
        deleted = asyncio.run(_prune(settings, batch, before_ms))
    echo(f"deleted {counted(deleted, 'result')} of {what}{age}")


def _age_ms(given: str) -> int:
    """Return an age in milliseconds. Raises SettingsError."""
    found = _AGE.fullmatch(given)
    if found is None:
        raise SettingsError(f"--older-than: {given!r} is no age; for example 30d, 12h or 45m")
    return int(found[1]) * _UNITS_MS[found[2]]


async def _prune(settings: Settings, batch: str | None, before_ms: int | None) -> int:
    """Delete results and return how many.

    Of all batches, those with unfinished jobs are left alone, and a line on stderr says so.
    """
    from nightmill.cli.session import open_session, require_rows  # noqa: PLC0415
    from nightmill.maintenance.prune import prune as delete  # noqa: PLC0415

    async with open_session(settings) as session:
        store = await session.stored(batch or "")
        if batch is not None:
            await require_rows(store, batch)
            return await delete(batch, store, session.batches, before_ms=before_ms)
        deleted = 0
        for name in await store.batches():
            try:
                deleted += await delete(name, store, session.batches, before_ms=before_ms)
            except BatchBusyError as error:
                echo(f"left alone: {error}", err=True)
        return deleted
