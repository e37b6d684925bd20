"""Looks after the batches for the life of a gateway: every second, and at once after a create."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from nightmill.message_batches.keeper import Keeper
from nightmill_gateway.answers.log import report
from nightmill_gateway.loops import looping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from nightmill_gateway.services import Services

LOOK_S: Final = 1.0
"""Between two looks at the batches, seconds."""


class Looking:
    """The keeper of one gateway process."""

    def __init__(self, services: Services) -> None:
        """Use connections that are open while it runs."""
        self._keeper = Keeper(services, lambda where, error, _: report(where, error))
        self._woken = asyncio.Event()
        self._woken.set()  # the first look is due at once

    def wake(self) -> None:
        """Look at the batches at once."""
        self._woken.set()

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """Run for the life of an application."""
        async with looping("the keeper of batches", self._turn):
            yield
        await self._keeper.close()

    async def _turn(self) -> float:
        """Wait until a look is due, and look."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._woken.wait()
        self._woken.clear()
        began = time.monotonic()
        await self._keeper.look()
        # Of 1,000 creates each wakes it: it looks for half of the time at most.
        return time.monotonic() - began
