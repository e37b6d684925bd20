"""Adds the turns of a job to its row: their tokens, their content, their place in the history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nightmill.records.message import NULL, Message
from nightmill.records.result import Bill
from nightmill_worker.jobs.chain import chain_of, joined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightmill.records.acceptance import Acceptance
    from nightmill.records.result import Attempt, Result
    from nightmill.records.turn import Turn


def with_turns(row: Result, turns: Sequence[Turn], accept: Acceptance) -> Result:
    """Return the row of a job that was called again after each of `turns`."""
    parts = chain_of(turns, accept).parts if row.message else []  # {}: it is no Message
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
    message = row.message
    return msgspec.structs.replace(
        row,
        turns=len(turns),
        attempts=attempts,
        usage=sum((turn.usage for turn in turns), row.usage),
        cost=None if bill is None else bill.total,
        cost_parts=bill,
        message=message and Message(joined(bytes(message), parts)),
    )


def _billed(attempt: Attempt, turn: Turn, parts: Sequence[Turn]) -> Attempt:
    answer = NULL if turn in parts else turn.message
    return msgspec.structs.replace(attempt, billed=turn.usage, cost=turn.cost, answer=answer)
