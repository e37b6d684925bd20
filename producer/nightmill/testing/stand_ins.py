"""What stands for a thread and for Redis where a producer is in memory."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from nightmill.client.at_once import at_once

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from nightmill.client.producer import Producer

T = TypeVar("T")


class Here:
    """Runs what a SyncProducer runs over a MemoryProducer, which never waits."""

    def __init__(self, memory: Producer) -> None:
        """Take a MemoryProducer."""
        self._memory = memory

    def run(self, work: Callable[[Producer], Coroutine[object, object, T]]) -> T:
        """Run `work` here and now."""
        return at_once(work(self._memory))

    def close(self) -> None:
        """Keep everything."""


class Clock:
    """What a Producer needs of Redis beside its jobs."""

    async def ping(self) -> None:
        """Answer."""

    async def execute_command(self, _time: str) -> tuple[int, int]:
        """Return seconds and microseconds."""
        return divmod(time.time_ns() // 1000, 1_000_000)
