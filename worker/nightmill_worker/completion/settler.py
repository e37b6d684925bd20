"""The settler: answers, concluded and carried to Redis and the store many at a time."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from nightmill_worker.completion.batcher import Batcher
from nightmill_worker.events import FinishRefused
from nightmill_worker.jobs.decision import Answer, Conclusion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightmill_worker.completion.committer import Committer
    from nightmill_worker.events import Emit
    from nightmill_worker.jobs.decision import Concluder
    from nightmill_worker.jobs.in_flight import InFlight
    from nightmill_worker.queue.scripts import Release, Scripts

BEAT: Final = 0.045
"""Share of a call's time that answers wait for each other, less TRIPS_S: a slot is empty for half
of that wait and for what the round trips take, which longer calls feel less."""
TRIPS_S: Final = 0.015
BEAT_S: Final = (0.02, 0.2)
"""Shortest and longest beat, seconds; each costs Redis and this process much the same."""
LIMIT: Final = 500
_RECENT: Final = 0.02
"""Weight of one answer in the mean time of a call."""


class Settler:
    """What the flights of one process come to, in groups."""

    def __init__(
        self,
        scripts: Scripts,
        committer: Committer,
        registry: InFlight,
        concluder: Concluder,
        emit: Emit,
    ) -> None:
        """Take where things go, and the registry that forgets what has gone."""
        self._scripts = scripts
        self._committer = committer
        self._registry = registry
        self._concluder = concluder
        self._emit = emit
        self._batcher: Batcher[Answer | Conclusion] = Batcher(
            self._carry, linger_s=BEAT_S[0], limit=LIMIT
        )
        self._call_s = 0.0

    def put(self, item: Answer | Conclusion) -> None:
        """Take an answer, or what is concluded of a flight without one."""
        self._batcher.put(item)

    async def run(self) -> None:
        """Carry until `close`, then what is left."""
        await asyncio.gather(self._carry_on(), self._committer.run())

    def close(self) -> None:
        """Make `run` return once nothing is left."""
        self._batcher.close()

    async def _carry_on(self) -> None:
        await self._batcher.run()
        self._committer.close()  # it has heard of the last answers by now

    async def _carry(self, items: list[Answer | Conclusion]) -> None:
        now = time.time()
        done = [
            self._concluder.answered(item, now) if isinstance(item, Answer) else item
            for item in items
        ]
        self._committer.put([each.ending for each in done if each.ending is not None])
        mean_s = sum(each.settlement.latency_ms for each in done) / len(done) / 1000
        self._call_s += min(1.0, _RECENT * len(done)) * (mean_s - self._call_s)
        self._batcher.linger_s = min(max(BEAT_S[0], BEAT * self._call_s - TRIPS_S), BEAT_S[1])
        self._committer.pace(self._call_s)
        await self._scripts.settle([each.settlement for each in done])
        self._registry.room.set()  # their slots are free now
        await self._release([each.release for each in done if each.release is not None])

    async def _release(self, items: Sequence[Release]) -> None:
        late = await self._scripts.release(items)
        self._registry.forget(items)
        for job_id in late:
            self._emit(FinishRefused(job_id=job_id))
