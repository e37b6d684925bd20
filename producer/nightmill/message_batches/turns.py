"""Turns: of many batches that need work at once, a few are worked on at a time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

AT_ONCE: Final = 4
"""Turns at a time: each may use a connection of the store's pool, which has 15."""
TURN_S: Final = 2.0
"""Work that takes longer goes on without a turn: a large batch waits for room in its window."""


class Turns:
    """Gives AT_ONCE turns at a time, in the order in which they are asked for."""

    def __init__(self) -> None:
        """Begin with all turns free."""
        self._free = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn; it is given back at the end of the block, or after TURN_S."""
        await self._free.acquire()
        held = True

        def give_back() -> None:
            nonlocal held
            if held:
                held = False
                self._free.release()

        timer = asyncio.get_running_loop().call_later(TURN_S, give_back)
        try:
            yield
        finally:
            timer.cancel()
            give_back()
