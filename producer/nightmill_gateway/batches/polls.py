"""What clients see that poll: one look at the store and at Redis for all that come at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

FRESH_S: Final = 0.1
"""So long polls of one batch get what the first of them has found, seconds."""


class Polls(Generic[T]):
    """Looks at batches, each for all who ask within FRESH_S."""

    def __init__(self, look: Callable[[str, str], Awaitable[T]]) -> None:
        """Take what looks at a tenant's batch."""
        self._look = look
        self._found: dict[tuple[str, str], asyncio.Task[T]] = {}

    async def get(self, tenant: str, batch: str) -> T:
        """Return what `look` returns, or raise what it raises."""
        key = (tenant, batch)
        task = self._found.get(key)
        if task is None:
            task = self._found[key] = asyncio.ensure_future(self._look(tenant, batch))
            task.add_done_callback(_seen)
            asyncio.get_running_loop().call_later(FRESH_S, self._drop, key, task)
        return await asyncio.shield(task)

    def forget(self, tenant: str, batch: str) -> None:
        """Look again: the batch was changed."""
        self._found.pop((tenant, batch), None)

    def _drop(self, key: tuple[str, str], task: asyncio.Task[T]) -> None:
        if self._found.get(key) is task:
            del self._found[key]


def _seen(task: asyncio.Task[T]) -> None:
    if not task.cancelled():
        task.exception()  # those who asked may have hung up
