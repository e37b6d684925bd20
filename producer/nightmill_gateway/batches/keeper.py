"""The keeper: looks after every batch that has not ended, in each gateway, until it has.

What it does is held in Redis and the store, so any gateway goes on where another one stopped. The
feeder's lock lets one of them feed a batch.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from nightmill.errors import (
    BatchBusyError,
    BatchEndedError,
    QueueFullError,
    QueueUnavailableError,
    StoreUnavailableError,
)
from nightmill.records.job import now_ms
from nightmill_gateway.answers.log import report
from nightmill_gateway.batches.feeding import BatchFeeding
from nightmill_gateway.batches.shapes import id_before

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from aiohttp import web

    from nightmill_gateway.services import Services

LOOK_S: Final = 1.0
"""Between two looks at the batches, seconds."""
AFTER_DEFECT_S: Final = 30.0
"""Wait of a batch whose step raised, seconds."""
BROKEN_OFF_MS: Final = 2 * 3_600_000
"""A create takes less: requests without their batch for so long are remains of one that broke."""
CLEAN_S: Final = 600.0
_PASSING: Final = (
    *(BatchBusyError, BatchEndedError, QueueFullError, QueueUnavailableError),
    StoreUnavailableError,
)
"""Errors after which the next look goes on."""


class Keeper:
    """The background work of one gateway process."""

    def __init__(self, services: Services) -> None:
        """Use connections that are open while it runs."""
        self._services = services
        self._woken = asyncio.Event()
        self._steps: dict[str, asyncio.Task[None]] = {}
        self._feeds: dict[str, asyncio.Task[None]] = {}

    def wake(self) -> None:
        """Look at the batches at once."""
        self._woken.set()

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """Run for the life of an application."""
        loops = [asyncio.create_task(self._look()), asyncio.create_task(self._clean())]
        yield
        tasks = [*loops, *self._steps.values(), *self._feeds.values()]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    async def _look(self) -> None:
        """Take a step for each batch that needs one, and again every LOOK_S."""
        while True:
            self._woken.clear()
            try:
                for batch in await self._services.message_batches.unfinished():
                    feeding = BatchFeeding(self._services, batch)
                    self._start(self._steps, batch.batch, self._step(feeding))
            except _PASSING:
                pass
            except Exception as error:  # noqa: BLE001 - the loop goes on
                report("the keeper of batches", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._woken.wait()

    def _start(
        self, tasks: dict[str, asyncio.Task[None]], name: str, work: Coroutine[None, None, None]
    ) -> None:
        """Start `work` for the batch `name`, unless a task of this kind runs for it."""
        if name in tasks:
            work.close()
        else:
            tasks[name] = asyncio.create_task(self._guarded(tasks, name, work))

    async def _guarded(
        self, tasks: dict[str, asyncio.Task[None]], name: str, work: Coroutine[None, None, None]
    ) -> None:
        try:
            await work
        except _PASSING:
            pass
        except Exception as error:  # noqa: BLE001 - other batches go on
            report(f"batch {name}", error)
            await asyncio.sleep(AFTER_DEFECT_S)
        finally:
            del tasks[name]

    async def _step(self, feeding: BatchFeeding) -> None:
        if await feeding.step():
            self._start(self._feeds, feeding.name, feeding.feed())

    async def _clean(self) -> None:
        """Remove the requests of creates that broke off: of a gateway that was killed."""
        batches = self._services.message_batches
        while True:
            with suppress(*_PASSING):
                for name in await batches.remains(id_before(now_ms() - BROKEN_OFF_MS)):
                    await batches.drop(name)
            await asyncio.sleep(CLEAN_S)
