"""Tells clients that wait for a Message when the budget of their key has ended."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from nightmill.errors import NightmillError
from nightmill.queue.budgets import read_spent

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


class _Waits(NamedTuple):
    """The clients of one key that wait."""

    budget: Budget
    jobs: Counter[str]


class Spending:
    """The budgets of keys whose clients wait at this process: one look for all clients of a key."""

    def __init__(self, redis: Redis, room: QueueRoom, wake: Callable[[str], None]) -> None:
        """Take an open connection, and what wakes those that wait for a job."""
        self._redis = redis
        self._room = room
        self._wake = wake
        self._keys: dict[str, _Waits] = {}
        self._ended: dict[str, ApiError] = {}
        self._some = asyncio.Event()

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """Look for the life of an application."""
        looking = asyncio.create_task(self._look_on())
        yield
        looking.cancel()
        await asyncio.wait([looking])

    @contextmanager
    def watched(self, caller: Caller, job_id: str) -> Iterator[None]:
        """Wake who waits for a job in the block when the budget of its key ends."""
        if caller.limits.budget is None:
            yield
            return
        waits = self._keys.setdefault(caller.key_id, _Waits(caller.limits.budget, Counter()))
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
                self._ended.pop(caller.key_id, None)

    def ended(self, caller: Caller) -> ApiError | None:
        """Return the error of a key whose budget was spent at the last look."""
        return self._ended.get(caller.key_id)

    async def _look_on(self) -> None:
        while True:
            if not self._keys:
                self._some.clear()
                await self._some.wait()
            for key_id in list(self._keys):
                with suppress(NightmillError):
                    await self._look(key_id)
            await asyncio.sleep(EVERY_S)

    async def _look(self, key_id: str) -> None:
        budget = self._keys[key_id].budget
        found = await read_spent(self._redis, key_id, budget)
        error = self._room.spent_error(key_id, budget, found)
        waits = self._keys.get(key_id)
        if error is None or waits is None:
            self._ended.pop(key_id, None)
            return
        self._ended[key_id] = error
        for job_id in list(waits.jobs):
            self._wake(job_id)
