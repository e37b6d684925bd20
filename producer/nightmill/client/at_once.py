"""A Producer over a connection that blocks: its methods end at once, without an event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from nightmill.client.producer import Producer
from nightmill.queue import wire
from nightmill.queue.connection import connect_blocking

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import redis
    from redis.asyncio import Redis

    from nightmill.settings import Settings

T = TypeVar("T")


def at_once(coroutine: Coroutine[object, object, T]) -> T:
    """Run a coroutine that waits for nothing, without a loop. Raises TypeError when it waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    coroutine.close()
    raise TypeError("this method waits for something, so it needs an event loop")


class AtOnce(Producer):
    """Runs methods of Producer that enqueue in the calling thread; any thread may call it."""

    def __init__(self, redis_url: str | None = None, *, settings: Settings | None = None) -> None:
        """Take what Producer takes."""
        super().__init__(redis_url, settings=settings)
        blocking = _Blocking(connect_blocking(self.settings))
        self._redis = cast("Redis", blocking)
        self._enqueue = blocking.register_script(wire.script("enqueue"))

    def run(self, work: Callable[[Producer], Coroutine[object, object, T]]) -> T:
        """Return what `work` returns. It must await nothing but commands and the enqueue script."""
        return at_once(work(self))


class _Blocking:
    """A blocking client behind the names of the asynchronous one; what it returns never waits."""

    def __init__(self, redis: redis.Redis) -> None:
        self._redis = redis

    async def ping(self) -> None:
        self._redis.ping()

    async def execute_command(self, *args: str) -> Any:  # noqa: ANN401 - as redis-py
        return self._redis.execute_command(*args)

    def register_script(self, text: str) -> Any:  # noqa: ANN401 - a stand-in for AsyncScript
        script = self._redis.register_script(text)

        async def run(*, args: list[str | bytes | int]) -> Any:  # noqa: ANN401 - as redis-py
            return script(args=args)

        return run

    async def aclose(self) -> None:
        self._redis.close()
