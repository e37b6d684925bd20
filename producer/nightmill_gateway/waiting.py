"""Waits for the ends of jobs: one look at Redis for all that wait, however many they are."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from nightmill.queue import keys
from nightmill.queue.connection import redis_errors
from nightmill_gateway.loops import looping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp import web

    from nightmill.records.result import Result
    from nightmill_gateway.services import Services

LEAST_S: Final = 0.004
"""Between two looks, seconds."""
EACH_S: Final = 0.00002
"""Added to it for each job that is waited for: 2,000 of them are looked at every 44 ms."""


class Waiting:
    """The jobs that requests of this process wait for."""

    def __init__(self, services: Services) -> None:
        """Use connections that are open while it runs."""
        self._services = services
        self._ended: dict[str, asyncio.Event] = {}
        self._waiters: dict[str, int] = {}
        self._some = asyncio.Event()
        self.stopped = False
        """Whether nobody is to wait any more, since the gateway stops."""
        self.watch: Callable[[int], None] | None = None
        """Called with 1 when a client begins to wait, with -1 when its wait ends."""

    def stop(self) -> None:
        """End all waits, since the gateway stops."""
        self.stopped = True
        for ended in self._ended.values():
            ended.set()

    def wake(self, job_id: str) -> None:
        """End the waits for a job now: its clients look what has happened."""
        if ended := self._ended.get(job_id):
            ended.set()

    async def row(self, job_id: str, within_s: float) -> Result | None:
        """Return the stored row of a job, None if it does not end within `within_s` seconds.

        It returns earlier when the gateway stops, or at `wake`.
        """
        if self.stopped:
            return await self._services.store.get(job_id)
        ended = self._ended.setdefault(job_id, asyncio.Event())
        self._waiters[job_id] = self._waiters.get(job_id, 0) + 1
        self._some.set()
        if self.watch:
            self.watch(1)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(within_s):
                    await ended.wait()
        finally:
            if self.watch:
                self.watch(-1)
            self._waiters[job_id] -= 1
            if not self._waiters[job_id]:
                del self._waiters[job_id], self._ended[job_id]
        return await self._services.store.get(job_id)

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """Look for the life of an application."""
        async with looping("waits for jobs", self._turn):
            yield

    async def _turn(self) -> float:
        if not self._ended:
            self._some.clear()
            await self._some.wait()
        await self._look()
        return LEAST_S + EACH_S * len(self._ended)

    async def _look(self) -> None:
        """Wake those whose jobs have ended: their results are in Redis, after the row's commit."""
        ids = list(self._ended)
        if not ids:
            return
        with redis_errors():
            found = await self._services.redis.mget([keys.RESULT + job_id for job_id in ids])
        for job_id, kept in zip(ids, found, strict=True):
            if kept is not None and (ended := self._ended.get(job_id)):
                ended.set()
