"""Sources that pause, block or fail: they block no one else, and all of them are closed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing

import pytest

from nightmill.sources import live_chunks
from tests.rig import until


class Source:
    """Counts the items that are read; before item `pause` it waits for `let_on`."""

    def __init__(self, items: int, pause: int = -1) -> None:
        """Hold `items` items; `pause` is the index of the item to wait before, -1 for none."""
        self.read_items = 0
        self.closed_by: int | None = None
        self.let_on = threading.Event()
        self._items, self._pause = items, pause

    def blocking(self) -> Iterator[int]:
        """Yield the items like a blocking database cursor."""
        try:
            for item in range(self._items):
                if item == self._pause:
                    self.let_on.wait(10)
                self.read_items += 1
                yield item
        finally:
            self.closed_by = threading.get_ident()

    async def asynchronous(self) -> AsyncIterator[int]:
        """Yield the items like an asynchronous cursor."""
        try:
            for item in range(self._items):
                while item == self._pause and not self.let_on.is_set():  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                self.read_items += 1
                yield item
        finally:
            self.closed_by = threading.get_ident()


Way = Callable[[Source], "Iterator[int] | AsyncIterator[int]"]
WAYS: list[Way] = [Source.blocking, Source.asynchronous]


@pytest.fixture(params=WAYS, ids=["blocking", "asynchronous"])
def way(request: pytest.FixtureRequest) -> Way:
    """Return one of the two kinds of iterator."""
    found: Way = request.param
    return found


async def test_everything_comes_once_and_in_order(way: Way) -> None:
    """The size of chunks does not change the items."""
    source = Source(1000)
    chunks = [chunk async for chunk in live_chunks(way(source), 64)]
    assert [item for chunk in chunks for item in chunk] == list(range(1000))
    assert max(map(len, chunks)) <= 64
    assert source.closed_by is not None


async def test_items_come_while_the_source_pauses(way: Way) -> None:
    """Items that were read are not held back. The event loop is not blocked."""
    source = Source(5, pause=3)
    async with aclosing(live_chunks(way(source), 64)) as chunks:
        got: list[int] = []
        while len(got) < 3:
            got += await anext(chunks)
        waiting = asyncio.ensure_future(anext(chunks))
        await asyncio.sleep(0)
        assert not waiting.done()
        source.let_on.set()
        got += await waiting
        assert got[:4] == [0, 1, 2, 3]


async def test_no_more_than_a_chunk_is_read_ahead(way: Way) -> None:
    """Ten million rows stay in the source, not in memory."""
    source = Source(10_000)
    async with aclosing(live_chunks(way(source), 64)) as chunks:
        taken = len(await anext(chunks))
        for _ in range(100):
            await asyncio.sleep(0.001)
        assert source.read_items <= taken + 64 + 1


async def test_a_source_is_closed_when_its_reader_stops(way: Way) -> None:
    """Its connection must not stay open. The thread that read it closes it."""
    source = Source(10_000)
    async with aclosing(live_chunks(way(source), 64)) as chunks:
        await anext(chunks)
    assert source.closed_by is not None
    ours = source.closed_by == threading.get_ident()
    assert ours == (way is Source.asynchronous)


async def test_leaving_a_source_that_blocks_takes_no_time() -> None:
    """Ctrl-C does not wait for the next line. The source is closed when that line comes."""
    source = Source(5, pause=1)
    async with asyncio.timeout(5), aclosing(live_chunks(source.blocking(), 64)) as chunks:
        assert await anext(chunks) == [0]
    assert source.closed_by is None
    source.let_on.set()
    await until(lambda: source.closed_by is not None)


async def collect(chunks: AsyncIterator[list[int]], into: list[int]) -> None:
    """Append every item to `into`, to the end of the source."""
    async for chunk in chunks:
        into += chunk


@pytest.mark.parametrize("raised", [ValueError("broken"), KeyboardInterrupt()])
async def test_an_error_comes_after_the_items_before_it(raised: BaseException) -> None:
    """Items that were read before the error are not lost."""

    def failing() -> Iterator[int]:
        yield from range(3)
        raise raised

    got: list[int] = []
    with pytest.raises(type(raised)):
        await collect(live_chunks(failing(), 2), got)
    assert got == [0, 1, 2]


async def test_an_error_of_an_asynchronous_source_comes_through() -> None:
    """A lost database connection is not mistaken for the end of the rows."""

    async def failing() -> AsyncIterator[int]:
        yield 1
        raise ConnectionError("gone")

    got: list[int] = []
    with pytest.raises(ConnectionError, match="gone"):
        await collect(live_chunks(failing(), 2), got)
    assert got == [1]
