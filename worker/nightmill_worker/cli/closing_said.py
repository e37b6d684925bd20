"""Says the end of a run on stderr: aligned rows on a terminal, plain lines in a pipe or log."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from nightmill.cli.terminal import echo
from nightmill.errors import StoreError
from nightmill.records.stop_reasons import not_whole
from nightmill.reports.failures import failures, not_whole_answers
from nightmill.reports.labels import SummaryLabel
from nightmill.store import ResultStore
from nightmill_worker.cli import closing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from nightmill.records.counts import Counts
    from nightmill.reports.failures import Failure
    from nightmill_worker.machine.local_run import Ending


def say_summary(
    ending: Ending, batch: str, took_s: float, refused: int, *, rehearsal: bool
) -> None:
    """Say how the jobs ended and what that cost."""
    if sys.stderr.isatty():
        from nightmill_worker.cli import closing_block  # noqa: PLC0415 - rich is slow

        found = closing_block.rows(ending, batch, took_s, refused, rehearsal=rehearsal)
        closing_block.draw(found)
        return
    for line in closing.summary(ending, batch, took_s, refused, rehearsal=rehearsal):
        echo(line, err=True)


def say_output(text: str) -> None:
    """Say where the results are."""
    if sys.stderr.isatty():
        from nightmill_worker.cli import closing_block  # noqa: PLC0415

        closing_block.draw([(SummaryLabel.OUTPUT, text)])
        return
    echo(text, err=True)


async def read_why(store_at: str | Path, batch: str, counts: Counts) -> list[Failure]:
    """Return why jobs have no whole answer; [] and a line where the store cannot be read.

    A store that is away must not hide what to do next.
    """
    if not (counts.failed or not_whole(counts.stop_reasons)):
        return []
    try:
        async with ResultStore.open(store_at) as store:
            return [*await failures(store, batch), *await not_whole_answers(store, batch)]
    except StoreError as error:
        echo(f"why they failed cannot be read now: {error}", err=True)
        return []


def say_why(groups: Sequence[Failure]) -> None:
    """Say why jobs failed, with the command that fixes it."""
    if groups and sys.stderr.isatty():
        from nightmill_worker.cli import closing_block  # noqa: PLC0415

        closing_block.draw_reasons(groups)
        return
    for line in closing.reasons(groups):
        echo(line, err=True)


def say_advice(lines: Sequence[str]) -> None:
    """Say what to do next."""
    for line in lines:
        if sys.stderr.isatty():
            from nightmill_worker.cli import closing_block  # noqa: PLC0415

            closing_block.draw_advice(line)
        else:
            echo(line, err=True)
