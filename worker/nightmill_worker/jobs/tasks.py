"""Ending asyncio tasks for certain."""

from __future__ import annotations

import asyncio
from typing import Final

AGAIN_S: Final = 0.1
LONGEST_S: Final = 5.0
"""A task that is still there after so many seconds of cancelling is left behind."""


async def end_tasks(*tasks: asyncio.Task[object]) -> None:
    """Cancel `tasks` until they are done, or LONGEST_S has passed; the caller reads how they ended.

    Once is not enough: `asyncio.wait_for` of Python 3.11, in which redis-py awaits, can lose a
    cancellation that comes together with its answer.
    """
    for _ in range(round(LONGEST_S / AGAIN_S)):
        left = [task for task in tasks if not task.done()]
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=AGAIN_S)
