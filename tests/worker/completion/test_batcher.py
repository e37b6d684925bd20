"""The batcher: items wait for each other, a full group does not wait, close flushes all."""

from __future__ import annotations

import asyncio

from nightmill_worker.completion.batcher import Batcher

FOREVER = 3600.0


class Box:
    """Takes what is flushed; `slow` holds every flush until it is set."""

    def __init__(self, *, linger_s: float, limit: int) -> None:
        """Start an empty batcher."""
        self.flushed: list[list[int]] = []
        self.some = asyncio.Event()
        self.slow = asyncio.Event()
        self.slow.set()
        self.batcher: Batcher[int] = Batcher(self._flush, linger_s=linger_s, limit=limit)

    async def _flush(self, items: list[int]) -> None:
        self.flushed.append(items)
        self.some.set()
        await self.slow.wait()


async def test_items_wait_for_each_other_until_the_linger_is_over() -> None:
    """Items of one turn of the loop go in one call."""
    box = Box(linger_s=0.01, limit=100)
    running = asyncio.create_task(box.batcher.run())
    for item in range(3):
        box.batcher.put(item)
    await box.some.wait()
    assert box.flushed == [[0, 1, 2]]
    box.batcher.close()
    await running


async def test_a_full_batch_does_not_wait() -> None:
    """A group at the limit gains nothing by waiting."""
    box = Box(linger_s=FOREVER, limit=2)
    running = asyncio.create_task(box.batcher.run())
    box.batcher.put(1)
    box.batcher.put(2)
    async with asyncio.timeout(5):
        await box.some.wait()
    box.batcher.close()
    await running
    assert box.flushed == [[1, 2]]


async def test_an_urgent_item_takes_those_that_wait_along() -> None:
    """A refusal waited up to 0.2 s for other answers, and calls went on to be refused meanwhile."""
    box = Box(linger_s=FOREVER, limit=100)
    running = asyncio.create_task(box.batcher.run())
    box.batcher.put(1)
    box.batcher.put(2, at_once=True)
    async with asyncio.timeout(5):
        await box.some.wait()
    assert box.flushed == [[1, 2]]
    box.batcher.close()
    await running


async def test_close_flushes_what_is_left_in_parts() -> None:
    """Items that came during a flush are flushed too, never more than the limit at once."""
    box = Box(linger_s=FOREVER, limit=2)
    box.slow.clear()
    running = asyncio.create_task(box.batcher.run())
    box.batcher.put(0)
    box.batcher.put(1)
    await box.some.wait()
    for item in (2, 3, 4):
        box.batcher.put(item)
    assert len(box.batcher) == 3
    box.batcher.close()
    box.slow.set()
    async with asyncio.timeout(5):
        await running
    assert box.flushed == [[0, 1], [2, 3], [4]]


async def test_an_empty_batcher_closes_at_once() -> None:
    """A worker that never had a job must not wait for one to end."""
    box = Box(linger_s=FOREVER, limit=2)
    running = asyncio.create_task(box.batcher.run())
    await asyncio.sleep(0)
    box.batcher.close()
    async with asyncio.timeout(5):
        await running
    assert box.flushed == []


async def test_the_first_item_after_a_pause_does_not_wait() -> None:
    """A client that waits for one answer waited 70 ms for others that did not come."""
    box = Box(linger_s=FOREVER, limit=100)
    running = asyncio.create_task(box.batcher.run())
    box.batcher.put(1)
    async with asyncio.timeout(5):
        await box.some.wait()
    assert box.flushed == [[1]]
    box.batcher.put(2)
    box.batcher.put(3)
    await asyncio.sleep(0)
    assert box.flushed == [[1]], "those that follow wait for each other"
    box.batcher.close()
    await running
    assert box.flushed == [[1], [2, 3]]
