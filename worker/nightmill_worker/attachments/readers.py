"""Threads that read files. A read that hangs costs its own call a wait, and never the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import Final, TypeVar

T = TypeVar("T")

READERS: Final = 16
"""Files of how many requests are read at once."""
PATIENCE_S: Final = 60.0
"""Longest time that finding or reading the files of one request may take, seconds.

A call waits for its turn for so long after the last file that another call has read.
"""
MAX_HUNG: Final = 64
"""Threads that may hang besides the READERS. A hung thread cannot be ended, only abandoned."""


class Readers:
    """Runs blocking work in threads, a bounded number at once."""

    def __init__(
        self, count: int = READERS, patience_s: float = PATIENCE_S, max_hung: int = MAX_HUNG
    ) -> None:
        """Take the number of threads at once, the patience, and how many more may hang."""
        self.patience_s = patience_s
        self._places = asyncio.Semaphore(count)
        self._max_hung = max_hung
        self._served = 0
        self._hung = 0

    def __repr__(self) -> str:
        """Name the number of threads that hang."""
        return f"<Readers hung={self._hung}>"

    async def run(self, work: Callable[[], T]) -> T:
        """Return the result of `work`, which runs in a thread. Raises TimeoutError."""
        if self._places.locked():
            await self._turn()
        else:
            await self._places.acquire()
        done = _in_thread(work, _Place(self))
        async with asyncio.timeout(self.patience_s):
            return await done

    async def _turn(self) -> None:
        """Take a place when one is free. Raises TimeoutError when none becomes free in time."""
        acquiring = asyncio.ensure_future(self._places.acquire())
        try:
            served = -1
            while not acquiring.done() and self._served != served:
                served = self._served
                await asyncio.wait([acquiring], timeout=self.patience_s)
        except asyncio.CancelledError:
            if not acquiring.cancel():
                self._places.release()
            raise
        if not acquiring.done():
            acquiring.cancel()
            raise TimeoutError

    def release(self) -> None:
        """Give a place back."""
        self._served += 1
        self._places.release()

    def abandon(self) -> bool:
        """Count one more hung thread, if there may be one more."""
        if self._hung >= self._max_hung:
            return False
        self._hung += 1
        return True

    def recover(self) -> None:
        """Count one hung thread less: it has ended."""
        self._hung -= 1


class _Place:
    """The place of one thread. It is given back when the thread ends, or hangs for too long."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers
        self._abandoned = False
        self._hanging = asyncio.get_running_loop().call_later(readers.patience_s, self._hang)

    def end(self) -> None:
        """Take the end of the thread."""
        self._hanging.cancel()
        if self._abandoned:
            self._readers.recover()
        else:
            self._readers.release()

    def _hang(self) -> None:
        self._abandoned = self._readers.abandon()
        if self._abandoned:
            self._readers.release()


def _in_thread(work: Callable[[], T], place: _Place) -> asyncio.Future[T]:
    """Do `work` in a daemon thread: one that hangs on a disk must not keep the process alive.

    The thread may end long after the caller stopped waiting.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(outcome: Future[T]) -> None:
        place.end()
        if done.cancelled():
            return
        if (error := outcome.exception()) is not None:
            done.set_exception(error)
        else:
            done.set_result(outcome.result())

    def run() -> None:
        outcome: Future[T] = Future()
        try:
            outcome.set_result(work())
        except Exception as error:  # noqa: BLE001 - the waiting caller handles it
            outcome.set_exception(error)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, outcome)

    try:
        Thread(target=run, name="attachments", daemon=True).start()
    except RuntimeError:  # the system has no thread left
        place.end()
        raise
    return done
