"""Puts jobs that this process holds back into a Redis that has lost them.

A Redis that restarts without its file, or a replica that lagged and was promoted, knows nothing of
calls in flight. Their answers are paid for, so their jobs must not be called again: each gets back
its payload, its place in the queue, its record and its lease.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nightmill.enqueue.known import remind
from nightmill.errors import QueueUnavailableError, StoreUnavailableError
from nightmill_worker.events import JobsRestored
from nightmill_worker.queue.records import Held

if TYPE_CHECKING:
    from collections.abc import Collection

    from nightmill.queue.batches import Batches
    from nightmill.store import ResultStore
    from nightmill_worker.events import Emit
    from nightmill_worker.jobs.claimed_job import ClaimedJob
    from nightmill_worker.jobs.in_flight import InFlight
    from nightmill_worker.queue.scripts import Scripts


class Restorer:
    """Restores jobs of one process."""

    def __init__(  # noqa: PLR0913 - what knows the jobs, and what may have ended them
        self,
        scripts: Scripts,
        batches: Batches,
        store: ResultStore,
        registry: InFlight,
        emit: Emit,
        *,
        worker: str,
    ) -> None:
        """Take the connections, the jobs that are held, and this process's name."""
        self._scripts = scripts
        self._batches = batches
        self._store = store
        self._registry = registry
        self._emit = emit
        self._worker = worker

    async def restore(self, ids: Collection[str]) -> set[str]:
        """Put back those jobs of `ids` that are still held here.

        Returns the ids that are not to be held any more: another worker has ended or claimed them.
        While the store is away nothing is put back, since it alone knows which have ended.
        """
        held = self._registry.held(ids)
        if not held:
            return set()
        try:
            stored = await self._store.lookup([claimed.granted.id for claimed in held])
        except StoreUnavailableError:
            return set()
        over: set[str] = set()
        running: list[ClaimedJob] = []
        for claimed in held:
            row = stored.get(claimed.granted.id)
            if not claimed.granted.payload or (row is not None and row.run >= claimed.job.run):
                over.add(claimed.granted.id)
            else:
                running.append(claimed)
        lost = await self._scripts.restore([_held(each) for each in running], worker=self._worker)
        if len(running) > len(lost):
            self._emit(JobsRestored(jobs=len(running) - len(lost)))
        await self._remind({each.job.batch for each in running if each.job.batch})
        return over | lost

    async def _remind(self, names: Collection[str]) -> None:
        """Give the batches of restored jobs their totals back, as far as the store knows them."""
        for batch in sorted(names):
            try:
                await remind(self._batches, batch, self._store)
            except (QueueUnavailableError, StoreUnavailableError):
                return  # the next feeder of the batch does it


def _held(claimed: ClaimedJob) -> Held:
    granted = claimed.granted
    try:
        attempts = msgspec.json.decode(granted.attempts, type=list[msgspec.Raw])
        texts = [bytes(each).decode() for each in attempts]
    except (msgspec.MsgspecError, UnicodeDecodeError):
        texts = []
    return Held(
        id=granted.id,
        token=granted.token,
        queue=granted.queue,
        lane=granted.lane,
        calls=granted.calls,
        counted=granted.counted,
        snoozes=granted.snoozes,
        refusals=granted.refusals,
        outages=granted.outages,
        failed_at=granted.failed_at,
        calling=claimed.ended_s is None,
        attempts=texts,
        cut=granted.cut.decode(errors="replace"),
        payload=granted.payload,
    )
