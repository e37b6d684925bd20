"""A row that the store refused, reduced to what any store takes. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.records.result import ErrorInfo
from nightmill.store.bounds import bounded, clean

if TYPE_CHECKING:
    from nightmill.records.result import Result

REDUCED: Final = "row_reduced"
"""Error type of a reduced row that had no error of its own."""
LONGEST_PROBLEM: Final = 500
"""Characters that are kept of the store's reason, and of each of the row's own error texts."""
LONGEST_MESSAGE: Final = 256 << 20
"""Bytes of a message that every store takes in one column."""
_LEFT_OUT: Final = ("params", "attempts", "snooze_reasons", "request_id")


def reduced(row: Result, problem: str) -> Result:
    """Return `row` with its job, how it ended, its message and its usage; nothing called twice.

    The request, the attempts and the texts of headers are left out. `problem` says why the store
    refused the row; the error of the reduced row says so, and what was left out.
    """
    row = bounded(row)
    changes: dict[str, object] = {"params": None, "attempts": (), "snooze_reasons": {}}
    changes["request_id"] = None
    left_out = [name for name in _LEFT_OUT if getattr(row, name)]
    if row.message is not None and len(bytes(row.message)) > LONGEST_MESSAGE:
        changes["message"] = None
        left_out.append("message")
    note = f"the store refused the whole row: {_cut(problem)}"
    if left_out:
        note += f"; left out: {', '.join(left_out)}"
    error = row.error or ErrorInfo(type=REDUCED, message="the row is stored without some fields")
    changes["error"] = ErrorInfo(type=_cut(error.type), message=_cut(error.message), fix=note)
    return msgspec.structs.replace(row, **changes)


def _cut(text: str) -> str:
    return clean(text)[:LONGEST_PROBLEM]
