"""An event loop in a thread of its own, for programs that have no loop."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from typing import Any, Final, Generic, TypeVar

R = TypeVar("R")
T = TypeVar("T")

_inherited: Final[list[object]] = []
"""Loops of the parent process, kept after a fork: closing their copies would close its sockets."""


class LoopThread(Generic[R]):
    """Runs coroutines over one resource in a loop of its own; any thread may call it.

    The thread starts with the first call and ends with `close`, or when nothing refers to this
    object any more. A forked child starts a loop and opens a resource of its own.
    """

    def __init__(self, opened: Callable[[], AbstractAsyncContextManager[R]]) -> None:
        """Take what opens the resource; the loop that uses the resource opens and closes it."""
        self._opened = opened
        self._starting = threading.Lock()
        self._running: _Running[R] | None = None

    def run(self, work: Callable[[R], Coroutine[Any, Any, T]]) -> T:
        """Run `work` over the resource and return what it returns, or raise what it raises."""
        with self.running(work) as future:
            return future.result()

    @contextmanager
    def running(self, work: Callable[[R], Coroutine[Any, Any, T]]) -> Iterator[Future[T]]:
        """Run `work` during a block; when the block raises (Ctrl-C), `work` is cancelled."""
        here = self._start()
        call = _Call(lambda: work(here.resource))
        try:
            here.loop.call_soon_threadsafe(call.start)
            yield call.ended
        except _InterruptedError as interrupted:
            raise interrupted.by from None
        except BaseException:
            with suppress(RuntimeError):  # the loop is closed already
                here.loop.call_soon_threadsafe(call.cancel)
            raise

    def close(self) -> None:
        """Cancel what still runs, close the resource and end the thread; a later call restarts."""
        with self._starting:
            here, self._running = self._running, None
        if here is not None and here.is_ours:
            here.stop()
            here.thread.join()

    def _start(self) -> _Running[R]:
        """Return this process's loop, started if there is none."""
        here = self._running
        if here is not None and here.is_ours:
            return here
        with self._starting:
            here = self._running
            if here is None or not here.is_ours:
                if here is not None:
                    _inherited.append(here)
                here = self._running = _started(self._opened)
                weakref.finalize(self, here.stop).atexit = False
        return here


class _Running(Generic[R]):
    """A loop with its resource, in the process that started it."""

    def __init__(self, resource: R) -> None:
        """Describe the running loop and the current thread."""
        self.resource = resource
        self.loop = asyncio.get_running_loop()
        self.thread = threading.current_thread()
        self.stopping = asyncio.Event()
        self._pid = os.getpid()

    @property
    def is_ours(self) -> bool:
        return self._pid == os.getpid()

    def stop(self) -> None:
        """Let the loop end; any thread may call this, at any time."""
        if self.is_ours:
            with suppress(RuntimeError):  # the loop is closed already
                self.loop.call_soon_threadsafe(self.stopping.set)


class _Call(Generic[T]):
    """One call: started and cancelled in the loop, waited for by a thread.

    asyncio.run_coroutine_threadsafe loses the call when a Ctrl-C arrives before it has returned.
    """

    def __init__(self, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        """Take the work; nothing runs yet."""
        self.ended: Future[T] = Future()
        self._work = work
        self._task: asyncio.Task[T] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(self._end)

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> T:
        try:
            return await self._work()
        except (KeyboardInterrupt, SystemExit) as stop:  # of a source: it would end the loop
            raise _InterruptedError(stop) from None

    def _end(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.ended.cancel()
        elif (error := task.exception()) is not None:
            self.ended.set_exception(error)
        else:
            self.ended.set_result(task.result())


class _InterruptedError(Exception):
    """Carries an exception through the loop that would otherwise end the loop."""

    def __init__(self, by: BaseException) -> None:
        self.by = by


def _started(opened: Callable[[], AbstractAsyncContextManager[R]]) -> _Running[R]:
    """Start a daemon thread with a loop; return once the resource is open."""
    started: Future[_Running[R]] = Future()
    threading.Thread(
        target=lambda: asyncio.run(_serve(opened, started)), name="nightmill-client", daemon=True
    ).start()
    return started.result()


async def _serve(
    opened: Callable[[], AbstractAsyncContextManager[R]], started: Future[_Running[R]]
) -> None:
    try:
        async with opened() as resource:
            here = _Running(resource)
            started.set_result(here)
            await here.stopping.wait()
            calls = asyncio.all_tasks() - {asyncio.current_task()}
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
    except Exception as error:
        if started.done():
            raise
        started.set_exception(error)
