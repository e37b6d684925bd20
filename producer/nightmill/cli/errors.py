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

    Also shows answers that are not whole: cut at max_tokens, refused by the model. Failures that
    differ only in numbers and ids are one group. Each group has its count, its message, one
    example, and the command that runs its jobs again.

    For example:

    nightmill errors prompts
    """
    from nightmill.settings import load_settings  # noqa: PLC0415 - `--help` stays fast

    found = asyncio.run(_errors(load_settings(store_url=store_url, data_dir=data_dir), batch))
    whole = f'no job of batch "{batch}" failed, and no answer was cut or refused'
    echo("\n\n".join(map(_group, found)) or whole)


async def _errors(settings: Settings, batch: str) -> list[Failure]:
    from nightmill.cli.session import open_results  # noqa: PLC0415
    from nightmill.reports.failures import failures, not_whole_answers  # noqa: PLC0415

    async with open_results(settings, batch) as store:
        return [*await failures(store, batch), *await not_whole_answers(store, batch)]


def _group(failure: Failure) -> str:
    """Return a group of failures as a few lines; the command is on one line, to be copied."""
    label, text = FailureLabel.RUN_AGAIN, failure.command
    if failure.fix:
        label, text = FailureLabel.FIX, f"{failure.fix}, then: {failure.command}"
    return "\n".join(
        (
            f"{failure.count:,} x {failure.type}: {failure.message}",
            f"  {FailureLabel.EXAMPLE:10} nightmill show {shlex.quote(failure.example)}",
            f"  {label:10} {text}",
        )
    )
