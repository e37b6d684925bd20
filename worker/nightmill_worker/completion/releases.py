"""Gives jobs back to their queues, also where Redis has lost them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightmill_worker.events import FinishRefused, JobFacts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightmill_worker.completion.restorer import Restorer
    from nightmill_worker.events import Emit
    from nightmill_worker.jobs.in_flight import InFlight
    from nightmill_worker.queue.records import Release
    from nightmill_worker.queue.scripts import Scripts


class Releases:
    """Releases jobs of one process."""

    def __init__(
        self, scripts: Scripts, registry: InFlight, restorer: Restorer, emit: Emit
    ) -> None:
        """Take the registry that forgets what was released."""
        self._scripts = scripts
        self._registry = registry
        self._restorer = restorer
        self._emit = emit

    async def give_back(self, items: Sequence[Release]) -> None:
        """Give jobs back; those that others hold by now are reported."""
        late = await self._release(items)
        facts = {each.granted.id: each.facts for each in self._registry.held(late)}
        self._registry.forget(items)
        for job_id in late:
            self._emit(FinishRefused(**facts.get(job_id, JobFacts(job_id=job_id))))

    async def _release(self, items: Sequence[Release]) -> set[str]:
        late = await self._scripts.release(items)
        if not late.gone:
            return late.lost
        await self._restorer.restore(late.gone)
        again = await self._scripts.release([item for item in items if item.id in late.gone])
        return late.lost | again.lost | again.gone
