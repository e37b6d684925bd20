"""`nightmill adjust`: change the limits of a batch, and what it accepts, while it runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from nightmill.cli import options
from nightmill.cli.accept_options import AcceptOptions
from nightmill.cli.grouped import grouped
from nightmill.cli.limit_options import LimitOptions, Weight
from nightmill.cli.terminal import echo
from nightmill.errors import InvalidLimitError
from nightmill.reports.limits import describe

if TYPE_CHECKING:
    from nightmill.records.acceptance import Accepted
    from nightmill.records.limits import Change, Limits
    from nightmill.settings import Settings

_FIXES = {
    "cancelled": "nightmill retry {} --cancelled calls its cancelled jobs",
    "paused": "nightmill resume {} lets it go on",
}
"""State of a batch that new limits do not change -> the command that does."""


@grouped
def adjust(  # noqa: PLR0913 - one parameter an option: that is typer's interface
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="The batch to adjust.")],
    *,
    weight: Weight = None,
    limits: LimitOptions,
    accept: AcceptOptions,
    model: options.Model = None,
    redis_url: options.RedisUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Change a batch's limits, and which answers are its results.

    The change takes effect with the next claim. A batch that is paused by its budget, or whose
    deadline has passed, goes on when it gets more. What is not given stays as it is; rows that are
    stored stay, too.

    For example:

    nightmill adjust prompts --budget-usd 50

    nightmill adjust prompts --weight 10 --concurrency 200 --expires 8h

    nightmill adjust prompts --on-truncated grow --max-tokens-ceiling 8192
    """
    from nightmill.queue.locate import with_redis  # noqa: PLC0415 - `--help` stays fast
    from nightmill.settings import load_settings  # noqa: PLC0415

    change, accepted = limits.change(weight), accept.accepted()
    if not change and not accepted:
        raise InvalidLimitError("nothing to adjust: give --weight, --expires, --budget-usd, ...")
    loaded = load_settings(redis_url=redis_url, data_dir=data_dir, model=model)
    with with_redis(loaded) as settings:
        adjusted, flag = asyncio.run(_adjust(settings, batch, change, accepted))
    echo(f'"{batch}": {describe(adjusted)}')
    if accepted:
        given = (f"{name} {_shown(value)}" for name, value in accepted.items())
        echo(f'"{batch}" accepts answers by: {", ".join(given)}')
    if flag:
        echo(f'"{batch}" is {flag}, so nothing goes on: {_FIXES[flag].format(batch)}')


async def _adjust(
    settings: Settings, batch: str, change: Change, accepted: Accepted
) -> tuple[Limits, str]:
    """Change the limits; return all of them, and what keeps the batch from going on, "" if none."""
    from nightmill.cli.session import open_batches  # noqa: PLC0415

    async with open_batches(settings) as batches:
        await batches.require(batch)
        limits = await batches.limit(batch, change, settings=settings)
        if accepted:
            await batches.accept(batch, **accepted)
        flag = (await batches.counts(batch)).flag
        return limits, flag if flag in _FIXES else ""


def _shown(value: object) -> object:
    """Return a value on a line; a schema may have thousands."""
    return "of --schema" if isinstance(value, dict) else value
