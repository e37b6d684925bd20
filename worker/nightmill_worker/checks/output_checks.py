"""Whether the output of an answer passes what its batch asks for: its schema and its check.

Small answers are held to the schema at once. A function of the operator, and a large answer, have a
process of their own: they would keep the event loop from other jobs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.checked.schema import compiled
from nightmill.errors import NightmillError
from nightmill.records.acceptance import to_text
from nightmill_worker.checks.judge import by_schema
from nightmill_worker.checks.messages import Question, Verdict
from nightmill_worker.checks.pool import CheckProcesses

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nightmill.records.acceptance import Acceptance
    from nightmill.settings import Settings

LARGE: Final = 256 << 10
"""Size of an answer from which it is checked in a process apart, bytes: some 5 ms of work."""
PASSED: Final = Verdict()


class OutputChecks:
    """The checks of one worker."""

    def __init__(self, settings: Settings) -> None:
        """Take the settings CHECKS and CHECK_TIMEOUT_S."""
        self._processes = CheckProcesses(settings)

    async def missing(self, accept: Acceptance) -> str:
        """Return why a job of this acceptance must not be called here, "" when it may."""
        try:
            if accept.schema is not None:
                compiled(bytes(accept.schema))
        except NightmillError as error:
            return f"the schema of the batch cannot be used: {error}"
        return "" if accept.check is None else await self._processes.missing(accept.check)

    async def verdict(
        self, message: bytes, accept: Acceptance, row: Mapping[str, object]
    ) -> Verdict:
        """Return what is wrong with the output of `message`, or with its check; never raises.

        `row` is what an operator's function gets beside the Message.
        """
        if len(message) < LARGE:
            _, verdict = by_schema(message, accept)
            if accept.check is None or verdict != PASSED:
                return verdict
        verdict = await self._processes.verdict(
            Question(
                message=message,
                accept=(to_text(accept) or "{}").encode(),
                row=msgspec.json.encode(row),
            )
        )
        if verdict.fault and accept.check:
            return Verdict(fault=f"check {accept.check!r}: {verdict.fault}")
        return verdict

    async def close(self) -> None:
        """End the processes."""
        await self._processes.close()
