"""Stores the requests of a batch that is being created, a part at a time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from nightmill.errors import StoreError

if TYPE_CHECKING:
    from nightmill.records.message_batch import StoredRequest
    from nightmill.store.message_batches import MessageBatches

PART: Final = 2_000
PART_BYTES: Final = 4 << 20
"""So many requests, or bytes of them, are stored at once."""


class Staging:
    """While one part is stored, the next is collected."""

    def __init__(self, batches: MessageBatches, batch: str) -> None:
        """Take the id of the batch, which is not there yet."""
        self._batches = batches
        self._batch = batch
        self._part: list[StoredRequest] = []
        self._size = 0
        self._storing: asyncio.Task[None] | None = None

    async def add(self, request: StoredRequest) -> None:
        """Add a request. Raises what the store raises."""
        self._part.append(request)
        self._size += len(request.body)
        if len(self._part) == PART or self._size > PART_BYTES:
            await self._store()

    async def finish(self) -> None:
        """Store the rest. Raises what the store raises."""
        if self._part:
            await self._store()
        await self._stored()

    async def drop(self) -> None:
        """Remove what was stored: the batch is not created."""
        with suppress(StoreError):
            await self._stored()
        with suppress(StoreError):  # the keeper removes what stays
            await self._batches.drop(self._batch)

    async def _store(self) -> None:
        await self._stored()
        part, self._part, self._size = self._part, [], 0
        self._storing = asyncio.create_task(self._batches.stage(self._batch, part))

    async def _stored(self) -> None:
        """Wait for the part that is being stored."""
        storing, self._storing = self._storing, None
        if storing is not None:
            await asyncio.shield(storing)
