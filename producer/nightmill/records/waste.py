"""What was paid for nothing: calls whose answers are no results. Pure.

It is a part of what a batch has spent, and is counted in Redis beside it, by kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nightmill.records.limits import NANO
from nightmill.records.state import JobState
from nightmill.records.stop_reasons import TRUNCATED as MAX_TOKENS
from nightmill.records.turn import PAUSED, TRUNCATED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nightmill.records.result import Result

FIELD: Final = "wasted:"
"""What the fields of a batch's hash begin with that count nano-dollars by kind."""
FAILED: Final = "failed"
REPEATED: Final = "repeated"
KINDS: Final = (FAILED, TRUNCATED, REPEATED)
"""Jobs that did not succeed; answers cut at max_tokens; calls that were made again. See
common.lua."""


def wasted_of(row: Result, nanodollars: int) -> dict[str, int]:
    """Return kind -> nano-dollars of a job that has ended, of all that its run has cost.

    Answers that paused are a part of the result. A cut answer that is kept counts as truncated.
    """
    if nanodollars <= 0:
        return {}
    if row.status is not JobState.SUCCEEDED:
        cut = row.error is not None and row.error.type == TRUNCATED
        return {TRUNCATED if cut else FAILED: nanodollars}
    if not row.turns and row.stop_reason != MAX_TOKENS:  # as most rows
        return {}
    found, left = dict.fromkeys(KINDS, 0), nanodollars
    for attempt in row.attempts if row.turns else ():
        if attempt.billed is not None:
            cost = round((attempt.cost or 0.0) * NANO)
            left -= cost
            if attempt.error_type != PAUSED:
                found[TRUNCATED if attempt.error_type == TRUNCATED else REPEATED] += cost
    if row.stop_reason == MAX_TOKENS:
        found[TRUNCATED] += max(0, left)
    return {kind: number for kind, number in found.items() if number}


def dollars_of(wasted: Mapping[str, int]) -> dict[str, float]:
    """Return kind -> US dollars, of every kind."""
    return {kind: wasted.get(kind, 0) / NANO for kind in KINDS}
