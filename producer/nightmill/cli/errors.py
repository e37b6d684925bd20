"""`nightmill errors`: why jobs of a batch failed, with like failures in one group."""

from __future__ import annotations

import asyncio
import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from nightmill.cli import options
from nightmill.cli.terminal import echo
from nightmill.reports.labels import FailureLabel

if TYPE_CHECKING:
    from nightmill.reports.failures import Failure
    from nightmill.settings import Settings


def errors(
    batch: Annotated[str, typer.Argument(metavar="BATCH", help='The batch; "" for single jobs.')],
    *,
    store_url: options.StoreUrl = None,
    data_dir: options.DataDir = None,
) -> None:
    """Show why jobs of a batch failed, and how to run them again.

    Failures that differ only in numbers and ids are one group. Each group has its count, its
    message, one example, and the command that runs its jobs again.

    For example:

    nightmill errors prompts
    """
    from nightmill.settings import load_settings  # noqa: PLC0415 - `--help` stays fast

    found = asyncio.run(_errors(load_settings(store_url=store_url, data_dir=data_dir), batch))
    echo("\n\n".join(map(_group, found)) or f'no job of batch "{batch}" failed')


async def _errors(settings: Settings, batch: str) -> list[Failure]:
    from nightmill.cli.session import open_results  # noqa: PLC0415
    from nightmill.reports.failures import failures  # noqa: PLC0415

    async with open_results(settings, batch) as store:
        return await failures(store, batch)


def _group(failure: Failure) -> str:
    """Return a group of failures as a few lines."""
    lines = [f"{failure.count:,} x {failure.type}: {failure.message}"]
    lines += [
        f"  {label:10} {text}"
        for label, text in (
            (FailureLabel.EXAMPLE, f"nightmill show {shlex.quote(failure.example)}"),
            (FailureLabel.FIX, failure.fix),
            (FailureLabel.RUN_AGAIN, failure.command),
        )
        if text
    ]
    return "\n".join(lines)
