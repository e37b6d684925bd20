"""The row of a job with the bills of its turns: their tokens, their cost, their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nightmill.records.message import NULL
from nightmill.records.result import Bill

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightmill.records.result import Attempt, Result
    from nightmill.records.turn import Turn


def billed(row: Result, turns: Sequence[Turn], parts: Sequence[Turn] = ()) -> Result:
    """Return `row` with what `turns` used. Their answers are in the history, but for `parts`.

    The content of those is in the row's message.
    """
    of_call = {turn.call: turn for turn in turns}
    attempts = tuple(
        _billed(each, of_call[each.n], parts) if each.n in of_call else each
        for each in row.attempts
    )
    if attempts and any(turn.usage_unknown for turn in turns):
        last = msgspec.structs.replace(attempts[-1], usage_unknown=True)
        attempts = (*attempts[:-1], last)
    bills = [row.cost_parts, *(turn.bill for turn in turns)]
    known = [bill for bill in bills if bill is not None]
    bill = sum(known, Bill()) if len(known) == len(bills) else None
    return msgspec.structs.replace(
        row,
        turns=len(turns),
        attempts=attempts,
        usage=sum((turn.usage for turn in turns), row.usage),
        cost=None if bill is None else bill.total,
        cost_parts=bill,
    )


def _billed(attempt: Attempt, turn: Turn, parts: Sequence[Turn]) -> Attempt:
    answer = NULL if turn in parts else turn.message
    return msgspec.structs.replace(attempt, billed=turn.usage, cost=turn.cost, answer=answer)
