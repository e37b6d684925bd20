"""A turn: a paid answer that is not a job's result, and from which its next call goes on."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from nightmill.records.message import NULL
from nightmill.records.result import Bill, Usage

Why = Literal["pause_turn", "truncated", "refused", "invalid_output"]
"""Why the job is called again: the answer paused, was cut, was refused, or did not pass."""

PAUSED: Final = "pause_turn"
TRUNCATED: Final = "truncated"
REFUSED: Final = "refused"
INVALID: Final = "invalid_output"
CONTINUED: Final = "continued"
"""The outcome of such a call in the job's history."""


class Turn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One turn of a job that has not ended; `why` says what the next call changes."""

    job_id: str
    run: int
    n: int
    """Its place in the run, from 1."""
    batch: str
    """"" for a single job."""
    request_hash: str
    """Of the job's request: a job that gets another request does not go on from it."""
    why: Why
    problem: str | None = None
    """What the check found wrong."""
    message: msgspec.Raw = NULL
    """The Message as JSON; null when it was cut where nothing of it can be used."""
    usage: Usage = Usage()
    usage_unknown: bool = False
    """Whether the answer did not report its tokens."""
    bill: Bill | None = None
    """Its cost by parts; None when the model has no known price."""
    call: int
    """The number of its attempt."""
    at: int
    """When it was answered, epoch ms."""

    @property
    def cost(self) -> float | None:
        """US dollars; None when the model has no known price."""
        return None if self.bill is None else self.bill.total
