"""Gather items and flush them together: one script call or one transaction for many jobs."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

T = TypeVar("T")


class Batcher(Generic[T]):
    """Calls `flush` with the items that were put, after `linger_s` seconds or at `limit` items.

    The first item after a pause as long is flushed at once: others that it could wait for are not
    to be expected. `linger_s` may change at any time; with 0 items are flushed at once.
    """

    def __init__(
        self, flush: Callable[[list[T]], Awaitable[None]], *, linger_s: float, limit: int
    ) -> None:
        """Take the flush (only one runs at a time; it must not raise) and when to call it."""
        self._flushed_at = -math.inf
        self._flush = flush
        self.linger_s = linger_s
        self._limit = limit
        self._items: list[T] = []
        self._some = asyncio.Event()
        self._full = asyncio.Event()
        self._closing = False

    def __len__(self) -> int:
        """Count the items that wait for their flush."""
        return len(self._items)

    def take(self) -> list[T]:
        """Take away the items that wait for their flush."""
        items, self._items = self._items, []
        return items

    def put(self, item: T, *, at_once: bool = False) -> None:
        """Add an item; it is flushed soon, or at once with all that wait."""
        self._items.append(item)
        self._note()
        if at_once:
            self._full.set()

    def put_all(self, items: Sequence[T]) -> None:
        """Add items; they are flushed soon."""
        self._items.extend(items)
        self._note()

    def _note(self) -> None:
        if self._items:
            self._some.set()
        if len(self._items) >= self._limit:
            self._full.set()

    async def run(self) -> None:
        """Flush until `close`, then flush what is left."""
        while not self._closing or self._items:
            await self._some.wait()
            if self.linger_s and len(self._items) < self._limit and not self._closing:
                await self._linger()
            items, self._items = self._items[: self._limit], self._items[self._limit :]
            if not self._items and not self._closing:
                self._some.clear()
            if len(self._items) < self._limit:
                self._full.clear()
            if items:
                await self._flush(items)
                self._flushed_at = asyncio.get_running_loop().time()

    async def _linger(self) -> None:
        if asyncio.get_running_loop().time() - self._flushed_at > self.linger_s:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self.linger_s):
                await self._full.wait()

    def close(self) -> None:
        """Make `run` return once nothing is left."""
        self._closing = True
        self._some.set()
        self._full.set()
