"""Answers as the lines of a spool, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec

from nightmill.records.result import Result
from nightmill.store.rows import COLUMNS, from_row, to_row
from nightmill_worker.completion.spool import Spooled
from nightmill_worker.jobs.decision import Ending
from nightmill_worker.jobs.turns import Continuation

if TYPE_CHECKING:
    from collections.abc import Sequence

Answer: TypeAlias = Ending | Continuation
"""What is committed: a job's end, or a turn from which the job goes on."""


def spooled(answers: Sequence[Answer]) -> list[Spooled]:
    """Return answers as the lines of a spool; those without a row are left out."""
    return [
        Spooled(row=to_row(each.row), finish=each.finish)
        for each in answers
        if isinstance(each, Ending) and each.row is not None
    ] + [Spooled(continuation=each) for each in answers if isinstance(each, Continuation)]


def answer_of(item: Spooled) -> Answer:
    """Return what was spooled. Raises when its columns are another version's, or damaged."""
    if item.continuation is not None:
        return item.continuation
    if item.finish is None:
        raise ValueError(item)
    row = {**dict.fromkeys(COLUMNS), "turns": 0, **item.row}  # a version before had fewer columns
    return Ending(row=_checked(from_row(row)), finish=item.finish)


def _checked(row: Result) -> Result:
    """Return a spooled row. Raises when a column holds a value of another type.

    Such a row would raise in every later commit, and its spool would never become empty.
    """
    plain = msgspec.structs.replace(row, params=None, message=None)
    msgspec.json.decode(msgspec.json.encode(plain), type=Result)
    return row
