"""Loops for the life of an application: whatever fails in a turn, the loop goes on."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from nightmill.errors import NightmillError
from nightmill_gateway.answers.log import report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Turn = Callable[[], Awaitable[float]]

AWAY_S: Final = 1.0
"""Until the next turn after one that failed, seconds."""


@asynccontextmanager
async def looping(name: str, turn: Turn) -> AsyncIterator[None]:
    """Do `turn` again and again for the length of the block; it returns the pause to the next.

    Pauses are in seconds. Redis and a store that do not answer are asked again; a defect is logged
    with `name`.
    """
    running = asyncio.create_task(_loop(name, turn))
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])


async def _loop(name: str, turn: Turn) -> None:
    while True:
        try:
            pause_s = await turn()
        except NightmillError:
            pause_s = AWAY_S
        except Exception as error:  # noqa: BLE001 - clients wait for what the loop does
            report(name, error)
            pause_s = AWAY_S
        await asyncio.sleep(pause_s)
