"""A source that may pause, such as a pipe: items are passed on as they arrive."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable
from contextlib import suppress
from inspect import isawaitable
from typing import Final, Generic, TypeVar

T = TypeVar("T")
Start = Callable[[Callable[[], None]], None]
"""A function that runs a function in another thread."""

CLOSE_S: Final = 0.5
"""How long a source may take to close, seconds. One that is blocked in a read is then left."""


def in_thread(read: Callable[[], None]) -> None:
    """Run `read` in a daemon thread: the process can end while it is blocked."""
    threading.Thread(target=read, daemon=True).start()


async def live_chunks(
    items: Iterable[T] | AsyncIterable[T], size: int, start: Start = in_thread
) -> AsyncGenerator[list[T], None]:
    """Yield the items that have arrived since the last chunk: at least 1, at most `size`.

    An error of `items` is raised after all items before it. `items` is read one chunk ahead, in
    another thread unless it is an asynchronous iterable. Its reader closes it when this ends.
    """
    buffer: _Buffer[T] = _Buffer(size)
    reading = None
    if isinstance(items, AsyncIterable):
        reading = asyncio.create_task(_read(items, buffer))
    else:
        start(lambda: _read_blocking(items, buffer))
    try:
        while chunk := await buffer.chunk(size):
            yield chunk
    finally:
        buffer.close()
        if reading is not None:
            reading.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await buffer.over.wait()


def _read_blocking(items: Iterable[T], buffer: _Buffer[T]) -> None:
    """Read `items` to the end, or until the buffer is closed. Runs in the other thread."""
    error: BaseException | None = None
    try:
        for item in items:
            if not buffer.put(item):
                break
        if callable(close := getattr(items, "close", None)):
            close()
    except BaseException as raised:  # noqa: BLE001 - `chunk` raises it in the loop
        error = raised
    buffer.end(error)


async def _read(items: AsyncIterable[T], buffer: _Buffer[T]) -> None:
    """Read an asynchronous source to the end, or until it is cancelled."""
    error: BaseException | None = None
    each = aiter(items)
    try:
        async for item in each:
            while not buffer.has_space:
                await buffer.wait_for_space()
            buffer.add(item)
    except (Exception, asyncio.CancelledError) as raised:  # noqa: BLE001 - as above
        error = raised
    try:
        if callable(close := getattr(each, "aclose", None)) and isawaitable(closing := close()):
            await closing
    finally:
        buffer.end(error)


class _Buffer(Generic[T]):
    """At most `size` items between their reader and the event loop that made the buffer."""

    def __init__(self, size: int) -> None:
        self.over = asyncio.Event()
        self._size = size
        self._items: deque[T] = deque()
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._space = asyncio.Event()
        self._changed = threading.Condition()
        self._wanted = False
        self._waiting = False
        self._closed = False
        self._ended = False
        self._error: BaseException | None = None

    @property
    def has_space(self) -> bool:
        return len(self._items) < self._size

    def put(self, item: T) -> bool:
        """Add an item from another thread; return False when the buffer is closed.

        Waits until the loop waits for items. Two busy threads would take turns of 5 ms each, and
        every call of the loop would wait for such a turn.
        """
        with self._changed:
            while not self._closed and not (self._wanted and self.has_space):
                self._changed.wait()
            self._items.append(item)
            self._wake()
            return not self._closed

    def add(self, item: T) -> None:
        """Add an item from the loop itself; there must be space."""
        self._items.append(item)
        self._wake()

    async def wait_for_space(self) -> None:
        """Wait until items were taken out."""
        self._space.clear()
        await self._space.wait()

    def end(self, error: BaseException | None) -> None:
        """Mark the end of the items; `error` is what ended them, None for their natural end."""
        with self._changed:
            self._ended, self._error = True, error
            self._wake()
        with suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self.over.set)

    def close(self) -> None:
        """Take no more items."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    async def chunk(self, size: int) -> list[T]:
        """Wait for the next chunk and take it out; [] at the end."""
        while True:
            with self._changed:
                self._arrived.clear()
                count = min(size, len(self._items))
                chunk = [self._items.popleft() for _ in range(count)]
                self._wanted = self._waiting = not chunk
                if chunk:
                    self._space.set()
                    return chunk
                if self._ended:
                    if self._error is not None:
                        raise self._error
                    return []
                self._changed.notify()
            await self._arrived.wait()

    def _wake(self) -> None:
        """Wake `chunk` when it waits. A wake-up for every item would cost more than reading it."""
        if self._waiting:
            self._waiting = False
            with suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self._arrived.set)
