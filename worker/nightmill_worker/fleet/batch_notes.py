"""Copies what Redis knows of whole batches into the store, since Redis may lose it.

A feeder that has the store does so itself. This is for batches that are fed from a machine without
it, and for limits and ends that change later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nightmill.enqueue.known import note
from nightmill.records.limits import Limits
from nightmill_worker.group_events import BatchChanged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nightmill.queue.batches import Batches
    from nightmill.records.counts import Counts
    from nightmill.store import ResultStore
    from nightmill.store.batches import FedState
    from nightmill_worker.events import Emit

EVERY_S: Final = 2.0
"""Time between two looks, seconds."""
Facts = tuple["FedState", int | None, Limits, str]


class BatchNotes:
    """Notes the batches of one Redis in one store; what it noted last is not noted again."""

    def __init__(self, batches: Batches, store: ResultStore, emit: Emit) -> None:
        """Use connections that the caller closes. `emit` learns of batches that change."""
        self._emit = emit
        self._states: dict[str, str] | None = None
        self._batches = batches
        self._store = store
        self.began = False
        """Whether it has looked once."""
        self._noted: dict[str, Facts] = {}

    async def run(self) -> None:
        """Look once. Raises what Redis and the store raise."""
        self.began = True
        found = await self._batches.all()
        self._tell(found)
        for batch, counts in found.items():
            facts = _facts(counts)
            if facts is None or self._noted.get(batch) == facts:
                continue
            state, total, limits, accept = facts
            known = await self._store.known(batch)
            if known is None or state != "feeding":
                total = None if total is None else max(total, (known and known.total) or 0)
                await note(self._store, batch, state, total=total, limits=limits, accept=accept)
            self._noted[batch] = facts

    def _tell(self, found: Mapping[str, Counts]) -> None:
        """Emit what has changed since the last look; the first look only learns."""
        states = {batch: counts.state for batch, counts in found.items()}
        before, self._states = self._states, dict(states)
        for batch, state in states.items():
            if before is not None and before.get(batch) != state:
                counts = found[batch]
                self._emit(
                    BatchChanged(
                        batch=batch,
                        state=state,
                        succeeded=counts.succeeded,
                        failed=counts.failed,
                        total=counts.total,
                    )
                )


def _facts(counts: Counts) -> Facts | None:
    """Return what is to be noted of a batch, None for one that was neither fed nor ended."""
    if counts.ended:
        flag: FedState = "expired" if counts.flag == "expired" else "cancelled"
        return flag, counts.total, counts.limits, counts.accept
    if not counts.fed:
        return None
    state: FedState = "feeding" if counts.total is None else "fed"
    return state, counts.total, counts.limits, counts.accept
