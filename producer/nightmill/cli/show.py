"""`nightmill show`: the history of one job, its request and its answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from nightmill.cli import options
from nightmill.cli.terminal import echo
from nightmill.errors import JobNotFoundError

if TYPE_CHECKING:
    from nightmill.settings import Settings


def show(
    job: Annotated[
        str, typer.Argument(metavar="JOB", help="BATCH:CUSTOM_ID, or the id of a single job.")
    ],
    *,
    redis_url: options.RedisUrl = None,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Show one job: its calls, cost, request and answer.

    Long texts are cut and images are named with their size; `nightmill results` has them whole.

    For example:

    nightmill show prompts:line-7
    """
    from nightmill.queue.locate import with_redis  # noqa: PLC0415 - `--help` stays fast
    from nightmill.settings import load_settings  # noqa: PLC0415

    loaded = load_settings(redis_url=redis_url, store_url=store_url, data_dir=data_dir)
    with with_redis(loaded) as settings:
        echo("\n".join(asyncio.run(_history(settings, job))))


async def _history(settings: Settings, job: str) -> list[str]:
    """Return the histories of a job: after a retry, one run is stored and the next one queued."""
    from nightmill.cli.session import open_session  # noqa: PLC0415
    from nightmill.reports.job_history import (  # noqa: PLC0415
        stored_history,
        waiting_history,
    )

    async with open_session(settings) as session:
        waiting = await waiting_history(session.batches.redis, job)
        row = await session.store.get(job) if session.store else None
    if waiting is None and row is None:
        message = f'no job "{job}", queued or stored; a batch\'s job is <batch>:<custom_id>'
        raise JobNotFoundError(message)
    return [*(waiting or ()), *(stored_history(row) if row else ())]
