"""A Producer belongs to one event loop, and says so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from nightmill import Producer, WrongLoopError
from tests.rig import hello

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

USES: list[Callable[[Producer], Coroutine[object, object, object]]] = [
    lambda producer: producer.enqueue(hello()),
    lambda producer: producer.result("x"),
    lambda producer: producer.batch("night").limit(weight=2),
    lambda producer: producer.__aenter__(),
    lambda producer: producer.aclose(),
]


@pytest.mark.parametrize("use", USES)
def test_a_second_loop_is_told_what_is_wrong(
    redis_url: str, use: Callable[[Producer], Coroutine[object, object, object]]
) -> None:
    """Each asyncio.run makes a loop: redis-py said "Event loop is closed" in the second one."""
    producer = Producer(redis_url)
    with asyncio.Runner() as first:
        first.run(producer.enqueue(hello()))
        with asyncio.Runner() as second, pytest.raises(WrongLoopError) as caught:
            second.run(use(producer))
        assert "belongs to one event loop" in str(caught.value)
        assert "or use SyncProducer" in str(caught.value)
        assert "\n" not in str(caught.value)
        assert first.run(producer.enqueue(hello())).new
        first.run(producer.aclose())


def test_a_producer_that_was_closed_may_be_used_in_another_loop(redis_url: str) -> None:
    """It has no connection then."""
    producer = Producer(redis_url)

    async def use() -> bool:
        async with producer:
            return (await producer.enqueue(hello())).new

    assert [asyncio.run(use()) for _ in range(2)] == [True, True]
