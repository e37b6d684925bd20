"""A stream that may pause: its lines come as they are there, and nobody is held up by the wait."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


async def live_chunks(items: Iterable[T], size: int) -> AsyncIterator[list[T]]:
    """Yield what `items` has given since the last chunk, `size` at most and never nothing.

    Raises what `items` raises, after what came before it. `items` is read in a thread, a chunk
    ahead; a read that blocks when we leave is left to end with the process.
    """
    reader = _Reader(items, size)
    threading.Thread(target=reader.read, daemon=True).start()
    while chunk := await reader.chunk(size):
        yield chunk


class _Reader(Generic[T]):
    """Hands items from a thread to the event loop it was made in."""

    def __init__(self, items: Iterable[T], ahead: int) -> None:
        self._items = items
        self._given: queue.Queue[T] = queue.Queue(ahead)
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._ended = False
        self._error: Exception | None = None

    def read(self) -> None:
        """Read to the end: what the thread does."""
        try:
            for item in self._items:
                self._given.put(item)
                self._tell()
        except Exception as error:  # noqa: BLE001 - `chunk` raises it where it can be handled
            self._error = error
        self._ended = True
        self._tell()

    async def chunk(self, size: int) -> list[T]:
        """Wait for the next chunk, [] at the end."""
        while True:
            self._news.clear()
            ended = self._ended  # read before the queue: nothing is given after the end
            chunk: list[T] = []
            with suppress(queue.Empty):
                while len(chunk) < size:
                    chunk.append(self._given.get_nowait())
            if chunk:
                return chunk
            if ended:
                if self._error is not None:
                    raise self._error
                return []
            await self._news.wait()

    def _tell(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is there to hear
            self._loop.call_soon_threadsafe(self._news.set)
