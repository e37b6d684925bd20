"""Adds the turns of a job to its row: what they used, and the content of paused answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nightmill.records.billed import billed
from nightmill.records.message import Message
from nightmill_worker.jobs.chain import chain_of, joined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightmill.records.acceptance import Acceptance
    from nightmill.records.result import Result
    from nightmill.records.turn import Turn


def with_turns(row: Result, turns: Sequence[Turn], accept: Acceptance) -> Result:
    """Return the row of a job that was called again after each of `turns`."""
    message = row.message
    parts = chain_of(turns, accept).parts if message else []  # {}: it is no Message
    whole = message and Message(joined(bytes(message), parts))
    return msgspec.structs.replace(billed(row, turns, parts), message=whole)
