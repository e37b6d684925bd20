"""What batches accept, as Redis has it: read once for each change of a batch's acceptance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nightmill.errors import InvalidAcceptanceError
from nightmill.queue import keys
from nightmill.records.acceptance import from_text
from nightmill.records.message import is_null

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nightmill.records.acceptance import Acceptance
    from nightmill_worker.jobs.claimed_job import ClaimedJob
    from nightmill_worker.queue.scripts import Scripts

MOST: Final = 100
"""Acceptances that are kept; one may have a schema of 1 MiB."""


class Acceptances:
    """The acceptances that one worker knows."""

    def __init__(self, scripts: Scripts) -> None:
        """Take the connection."""
        self._scripts = scripts
        self._known: dict[str, tuple[str, Acceptance | InvalidAcceptanceError]] = {}

    async def give(self, jobs: Iterable[ClaimedJob], ids: Mapping[str, str]) -> None:
        """Give jobs what their batches accept. `ids` is batch -> accept_id, as a claim reports it.

        A job that has an acceptance of its own keeps it. One whose acceptance cannot be read is
        not called.
        """
        for batch, accept_id in ids.items():
            if self._known.get(batch, ("",))[0] != accept_id:
                await self._read(batch, accept_id)
        for claimed in jobs:
            known = self._known.get(_batch_of(claimed.granted.queue))
            if known is None or not is_null(claimed.job.accept):
                continue
            if isinstance(known[1], InvalidAcceptanceError):
                claimed.refuse_acceptance(known[1])
            else:
                claimed.accept = known[1]

    async def _read(self, batch: str, accept_id: str) -> None:
        found = await self._scripts.command("HGET", keys.BATCH + batch, "accept")
        accept: Acceptance | InvalidAcceptanceError
        try:
            accept = from_text(found)
        except InvalidAcceptanceError as error:
            accept = error
        self._known.pop(batch, None)
        while len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[batch] = accept_id, accept


def _batch_of(queue: str) -> str:
    return queue.removeprefix(f"{keys.QUEUE}:").partition(":")[0]
