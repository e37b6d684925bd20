"""Ending tasks for certain."""

from __future__ import annotations

import asyncio
from typing import Final

AGAIN_S: Final = 0.1


async def end_tasks(*tasks: asyncio.Task[object]) -> None:
    """Cancel `tasks` until they are done; how they ended is the caller's to read.

    Once is not enough: `asyncio.wait_for` of Python 3.11, which redis-py awaits in, can lose a
    cancellation that comes while its answer does.
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=AGAIN_S)
