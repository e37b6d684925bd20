"""The threads that read files: waiting is bounded, and a hung thread keeps no place."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from nightmill_worker.attachments.readers import Readers
from tests.rig import until


class Disk:
    """Reads hang until `released` is set. `begun` counts them."""

    def __init__(self) -> None:
        """Hang."""
        self.released = threading.Event()
        self.begun = 0

    def read(self) -> bytes:
        """Hang, then return a byte."""
        self.begun += 1
        assert self.released.wait(20)
        return b"x"


@pytest.fixture
def disk() -> Iterator[Disk]:
    """Return a disk that hangs until the end of the test."""
    made = Disk()
    yield made
    made.released.set()


async def hung(readers: Readers, read: Callable[[], bytes], count: int) -> None:
    """Start `count` reads that hang and wait until each has timed out."""
    reads = [asyncio.create_task(readers.run(read)) for _ in range(count)]
    for outcome in await asyncio.gather(*reads, return_exceptions=True):
        assert isinstance(outcome, TimeoutError)


async def test_hung_reads_give_their_places_back(disk: Disk) -> None:
    """Sixteen hung reads must not stop all later ones for ever."""
    readers = Readers(patience_s=0.1)
    await hung(readers, disk.read, 16)
    assert await readers.run(lambda: b"well") == b"well"
    assert repr(readers) == "<Readers hung=16>"
    disk.released.set()
    await until(lambda: repr(readers) == "<Readers hung=0>")


async def test_waiting_for_a_place_ends_when_no_more_threads_may_hang(disk: Disk) -> None:
    """Threads are bounded: a read that gets no place ends like one that hangs."""
    readers = Readers(count=1, patience_s=0.05, max_hung=1)
    await hung(readers, disk.read, 4)
    assert disk.begun == 2
    disk.released.set()
    await until(lambda: repr(readers) == "<Readers hung=0>")
    assert await readers.run(lambda: b"well") == b"well"


async def test_a_place_of_a_cancelled_read_that_hangs_is_given_back(disk: Disk) -> None:
    """An abort or a lost lease cancels the call, but not its thread."""
    readers = Readers(count=1, patience_s=0.05)
    reading = asyncio.create_task(readers.run(disk.read))
    await until(lambda: disk.begun)
    reading.cancel()
    assert await readers.run(lambda: b"well") == b"well"


async def test_a_cancelled_wait_takes_no_place(disk: Disk) -> None:
    """Otherwise each abort of a waiting call would lose a place."""
    readers = Readers(count=1, patience_s=20)
    reading = asyncio.create_task(readers.run(disk.read))
    await until(lambda: disk.begun)
    waiting = [asyncio.create_task(readers.run(lambda: b"no")) for _ in range(3)]
    await asyncio.sleep(0)
    for wait in waiting:
        wait.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    disk.released.set()
    assert await reading == b"x"
    assert await readers.run(lambda: b"well") == b"well"


async def test_waiting_goes_on_while_other_reads_end() -> None:
    """Many files on a slow disk are no fault: each read that ends renews the patience."""
    readers = Readers(count=1, patience_s=0.5)
    never = threading.Event()

    def read() -> bytes:
        never.wait(0.03)
        return b"x"

    assert await asyncio.gather(*(readers.run(read) for _ in range(30))) == [b"x"] * 30


async def test_an_error_of_the_work_is_the_callers() -> None:
    """The caller decides what an error of a file means, and the place is free again."""
    readers = Readers(count=1)

    def fail() -> bytes:
        raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        await readers.run(fail)
    assert await readers.run(lambda: b"well") == b"well"


async def test_a_system_without_threads_is_an_error_and_keeps_no_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A limit of the system may be reached for a moment."""
    readers = Readers(count=1)

    def start(_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError):
            await readers.run(lambda: b"no")
    assert await readers.run(lambda: b"well") == b"well"
