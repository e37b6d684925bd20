"""Tells clients that wait for a Message when the budget of their key has ended."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from nightmill.queue.budgets import read_spent
from nightmill_gateway.loops import looping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from aiohttp import web
    from redis.asyncio import Redis

    from nightmill.records.key_limits import Budget
    from nightmill_gateway.access.caller import Caller
    from nightmill_gateway.access.room import QueueRoom
    from nightmill_gateway.answers.errors import ApiError

EVERY_S: Final = 1.0
"""Between two looks at the budgets of keys whose clients wait, seconds."""


class _Waits:
    """The clients of one key that wait."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.jobs: Counter[str] = Counter()
        """The jobs they wait for."""
        self.woken: set[str] = set()
        """Those whose clients know that the budget has ended."""
        self.error: ApiError | None = None
        """Of a budget that was spent at the last look."""


class Spending:
    """The budgets of keys whose clients wait at this process: one look for all clients of a key."""

    def __init__(self, redis: Redis, room: QueueRoom, wake: Callable[[str], None]) -> None:
        """Take an open connection, and what wakes those that wait for a job."""
        self._redis = redis
        self._room = room
        self._wake = wake
        self._keys: dict[str, _Waits] = {}
        self._some = asyncio.Event()

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """Look for the life of an application."""
        async with looping("budgets of keys", self._turn):
            yield

    @contextmanager
    def watched(self, caller: Caller, job_id: str) -> Iterator[None]:
        """Wake who waits for a job in the block when the budget of its key ends."""
        if caller.limits.budget is None:
            yield
            return
        waits = self._keys.setdefault(caller.key_id, _Waits(caller.limits.budget))
        waits.budget = caller.limits.budget  # it may have been adjusted while others wait
        waits.jobs[job_id] += 1
        self._some.set()
        try:
            yield
        finally:
            waits.jobs[job_id] -= 1
            if not waits.jobs[job_id]:
                del waits.jobs[job_id]
            if not waits.jobs:
                self._keys.pop(caller.key_id, None)

    def ended(self, caller: Caller) -> ApiError | None:
        """Return the error of a key whose budget was spent at the last look."""
        waits = self._keys.get(caller.key_id)
        return waits.error if waits else None

    async def _turn(self) -> float:
        if not self._keys:
            self._some.clear()
            await self._some.wait()
        for key_id, waits in list(self._keys.items()):
            await self._look(key_id, waits)
        return EVERY_S

    async def _look(self, key_id: str, waits: _Waits) -> None:
        found = await read_spent(self._redis, key_id, waits.budget)
        waits.error = self._room.spent_error(key_id, waits.budget, found)
        if waits.error is None:
            waits.woken.clear()
            return
        for job_id in waits.jobs.keys() - waits.woken:
            self._wake(job_id)
        waits.woken = set(waits.jobs)
