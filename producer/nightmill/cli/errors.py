"""`nightmill errors`: why jobs of a batch failed, alike failures together."""

from __future__ import annotations

import asyncio
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from nightmill.cli import options

if TYPE_CHECKING:
    from nightmill.reports.failures import Failure
    from nightmill.settings import Settings


def errors(
    batch: Annotated[str, typer.Argument(metavar="BATCH", help='The batch; "" for single jobs.')],
    *,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Say why jobs failed: how many, the message, an example, and what would run them again.

    For example:

    nightmill errors prompts
    """
    from nightmill.settings import load_settings  # noqa: PLC0415 - `--help` stays fast

    found = asyncio.run(_errors(load_settings(store_url=store_url, data_dir=data_dir), batch))
    typer.echo("\n\n".join(map(_told, found)) or f'no job of batch "{batch}" failed')


async def _errors(settings: Settings, batch: str) -> list[Failure]:
    from nightmill.cli.session import open_results  # noqa: PLC0415
    from nightmill.reports.failures import failures  # noqa: PLC0415

    async with open_results(settings, batch) as store:
        return await failures(store, batch)


def _told(failure: Failure) -> str:
    """Return a group of failures as a few lines."""
    lines = [f"{failure.count:,} x {failure.type}: {failure.message}"]
    lines.append(f"  example    nightmill show {shlex.quote(failure.example)}")
    if failure.fix:
        lines.append(f"  to fix it  {failure.fix}")
    lines.append(f"  run again  {failure.command}")
    return "\n".join(lines)
