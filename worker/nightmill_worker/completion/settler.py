"""The settler: decides about answers, and carries the decisions to the store and to Redis.

Two groups follow each other. The first is decided and handed to the committer at once: an answer
must never wait for Redis before it is safe. The second settles and releases in Redis.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from nightmill_worker.completion.batcher import Batcher
from nightmill_worker.completion.observed import calls_ended
from nightmill_worker.jobs.decision import Answered, Decision

if TYPE_CHECKING:
    from collections.abc import Callable

    from nightmill_worker.completion.committer import Committer
    from nightmill_worker.completion.releases import Releases
    from nightmill_worker.events import Emit
    from nightmill_worker.jobs.decision import Decider
    from nightmill_worker.jobs.in_flight import InFlight
    from nightmill_worker.queue.scripts import Scripts

LINGER: Final = 0.045
"""Share of a call's time that answers wait for each other, less TRIPS_S. A slot is empty for half
of that wait and for the round trips, which longer calls feel less."""
TRIPS_S: Final = 0.015
LINGER_S: Final = (0.02, 0.5)
"""Shortest and longest wait, seconds; each group costs Redis and this process much the same."""
LIMIT: Final = 500
FIRST_ERROR: Final = 400
"""The lowest status of an error."""
_RECENT: Final = 0.02
"""Weight of one answer in the mean time of a call."""


class Settler:
    """Carries out what is decided about the jobs of one process, in groups."""

    def __init__(  # noqa: PLR0913 - where decisions come from, and where they go
        self,
        scripts: Scripts,
        committer: Committer,
        registry: InFlight,
        decider: Decider,
        *,
        releases: Releases,
        emit: Emit,
        passed: Callable[[], None],
    ) -> None:
        """Take where decisions go, and the registry that forgets what was released.

        `passed` is called for each group with an answer: jobs get through to their calls.
        """
        self._scripts = scripts
        self._committer = committer
        self._registry = registry
        self._decider = decider
        self._releases = releases
        self._emit = emit
        self._passed = passed
        self._undecided: Batcher[Answered | Decision] = Batcher(
            self._decide, linger_s=LINGER_S[0], limit=LIMIT
        )
        self._decided: Batcher[Decision] = Batcher(self._carry, linger_s=0, limit=LIMIT)
        self._call_s = 0.0

    def put(self, item: Answered | Decision) -> None:
        """Take an answer, or a decision about a job without one.

        An error's answer does not wait for others: calls go on until the lane knows of it.
        """
        status = item.reply.status if isinstance(item, Answered) else None
        self._undecided.put(item, at_once=status is not None and status >= FIRST_ERROR)

    async def run(self) -> None:
        """Carry decisions out until `close`, then what is left."""
        await asyncio.gather(self._decide_all(), self._decided.run(), self._committer.run())

    def close(self) -> None:
        """Make `run` return once nothing is left."""
        self._undecided.close()

    async def _decide_all(self) -> None:
        await self._undecided.run()
        self._committer.close()  # it has the last answers by now
        self._decided.close()

    async def _decide(self, items: list[Answered | Decision]) -> None:
        """Decide about a group, without waiting for anything."""
        now = time.time()
        decisions = [
            self._decider.after_call(item, now) if isinstance(item, Answered) else item
            for item in items
        ]
        if any(isinstance(item, Answered) for item in items):
            self._passed()
        self._committer.put(
            [end for each in decisions if (end := each.ending or each.continuation) is not None]
        )
        self._emit(calls_ended(decisions))
        for each in decisions:
            if each.event is not None:
                self._emit(each.event)
        mean_s = sum(each.settlement.latency_ms for each in decisions) / len(decisions) / 1000
        self._call_s += min(1.0, _RECENT * len(decisions)) * (mean_s - self._call_s)
        wait_s = max(LINGER_S[0], LINGER * self._call_s - TRIPS_S)
        self._undecided.linger_s = min(wait_s, LINGER_S[1])
        self._committer.pace(self._call_s)
        self._decided.put_all(decisions)

    async def _carry(self, decisions: list[Decision]) -> None:
        await self._scripts.settle([each.settlement for each in decisions])
        if self._registry.free > 0:  # a claim before this one's answer may have filled them
            self._registry.room.set()
        released = [each.release for each in decisions if each.release is not None]
        await self._releases.give_back(released)
