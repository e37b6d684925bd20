"""A source that may pause: its items come as they are there, and nobody is held up by the wait."""

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
"""Has a function run by another thread."""

CLOSE_S: Final = 0.5
"""How long a source may take to close; one that blocks in a read is left to end with us."""


def in_thread(read: Callable[[], None]) -> None:
    """Run `read` in a thread that does not keep the process from its end."""
    threading.Thread(target=read, daemon=True).start()


async def live_chunks(
    items: Iterable[T] | AsyncIterable[T], size: int, start: Start = in_thread
) -> AsyncGenerator[list[T], None]:
    """Yield what `items` has given since the last chunk, `size` at most and never nothing.

    Raises what `items` raises, after what came before it. `items` is read a chunk ahead, in one
    other thread when it is no asynchronous iterable, and closed by whoever reads it when we leave.
    """
    given: _Given[T] = _Given(size)
    reading = None
    if isinstance(items, AsyncIterable):
        reading = asyncio.create_task(_read(items, given))
    else:
        start(lambda: _read_blocking(items, given))
    try:
        while chunk := await given.chunk(size):
            yield chunk
    finally:
        given.leave()
        if reading is not None:
            reading.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await given.over.wait()


def _read_blocking(items: Iterable[T], given: _Given[T]) -> None:
    """Read to the end, or until nobody is there: what the thread does."""
    error: BaseException | None = None
    try:
        for item in items:
            if not given.put(item):
                break
        if callable(close := getattr(items, "close", None)):
            close()
    except BaseException as raised:  # noqa: BLE001 - `chunk` raises it where it can be handled
        error = raised
    given.end(error)


async def _read(items: AsyncIterable[T], given: _Given[T]) -> None:
    """Read an asynchronous source to the end, or until it is cancelled."""
    error: BaseException | None = None
    each = aiter(items)
    try:
        async for item in each:
            while not given.has_room:
                await given.wait_for_room()
            given.add(item)
    except (Exception, asyncio.CancelledError) as raised:  # noqa: BLE001 - as above
        error = raised
    try:
        if callable(close := getattr(each, "aclose", None)) and isawaitable(closing := close()):
            await closing
    finally:
        given.end(error)


class _Given(Generic[T]):
    """Items on their way to the event loop it was made in, `ahead` at most."""

    def __init__(self, ahead: int) -> None:
        self.over = asyncio.Event()
        self._ahead = ahead
        self._items: deque[T] = deque()
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._changed = threading.Condition()
        self._wanted = False
        self._waiting = False
        self._left = False
        self._ended = False
        self._error: BaseException | None = None

    @property
    def has_room(self) -> bool:
        return len(self._items) < self._ahead

    def put(self, item: T) -> bool:
        """Give an item from another thread; False when nobody wants it any more.

        Reading goes on only while the loop waits for it: two busy threads would take turns of
        5 ms each, and the loop's own calls would wait for every one of them.
        """
        with self._changed:
            while not self._left and not (self._wanted and self.has_room):
                self._changed.wait()
            self._items.append(item)
            self._tell()
            return not self._left

    def add(self, item: T) -> None:
        """Give an item from the loop itself; there must be room."""
        self._items.append(item)
        self._tell()

    async def wait_for_room(self) -> None:
        """Wait until some were taken."""
        self._room.clear()
        await self._room.wait()

    def end(self, error: BaseException | None) -> None:
        """Say that nothing more comes, and why, if that is an error."""
        with self._changed:
            self._ended, self._error = True, error
            self._tell()
        with suppress(RuntimeError):  # the loop is closed: nobody is there to hear
            self._loop.call_soon_threadsafe(self.over.set)

    def leave(self) -> None:
        """Take no more."""
        with self._changed:
            self._left = True
            self._changed.notify()

    async def chunk(self, size: int) -> list[T]:
        """Wait for the next chunk, [] at the end."""
        while True:
            with self._changed:
                self._news.clear()
                count = min(size, len(self._items))
                chunk = [self._items.popleft() for _ in range(count)]
                self._wanted = self._waiting = not chunk
                if chunk:
                    self._room.set()
                    return chunk
                if self._ended:
                    if self._error is not None:
                        raise self._error
                    return []
                self._changed.notify()
            await self._news.wait()

    def _tell(self) -> None:
        """Wake who waits; telling each item on its own would cost more than reading it."""
        if self._waiting:
            self._waiting = False
            with suppress(RuntimeError):  # the loop is closed: nobody is there to hear
                self._loop.call_soon_threadsafe(self._news.set)
