"""One governor a line, and nobody else's orders."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from nightmill.queue import keys
from nightmill_worker.limiter.governor import Governor
from nightmill_worker.limiter.records import Caps

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCOUNT, MODEL = "line", "m"
LANE = f"{keys.LANE}{ACCOUNT}:{MODEL}"
LOCK = f"{keys.GOVERNOR}{ACCOUNT}"


@pytest.fixture
def server(redis_url: str) -> Iterator[Redis]:
    """Return a client of a server with one lane that was claimed from."""
    with Redis.from_url(redis_url, decode_responses=True) as client:
        client.sadd(keys.LANES, f"{ACCOUNT}:{MODEL}", "another:m")
        client.hset(LANE, "hot", "{}")
        client.hset(f"{keys.LANE}another:m", "hot", "{}")
        yield client


def governor(redis: AsyncRedis, worker: str, chance: random.Random | None = None) -> Governor:
    """Return `worker`'s governor of the line."""
    rng = chance or random.Random(1)
    return Governor(redis, account=ACCOUNT, worker=worker, caps=Caps(), rng=rng)


async def test_one_worker_governs_its_own_lines_lanes(server: Redis, redis_url: str) -> None:
    """Two that step the same law would step it twice as fast."""
    async with AsyncRedis.from_url(redis_url) as redis:
        assert await governor(redis, "a").tick()
        assert not await governor(redis, "b").tick()
    assert server.hkeys(LANE) == ["hot", "kept", "orders"]
    assert server.hkeys(f"{keys.LANE}another:m") == ["hot"]


async def test_who_lost_the_place_meanwhile_publishes_nothing(
    server: Redis, redis_url: str
) -> None:
    """A governor that was frozen for longer than its lock must not undo what its successor said."""

    class Frozen(random.Random):
        """Is asked for jitter between the reading and the writing."""

        def random(self) -> float:
            server.set(LOCK, "b")
            return super().random()

    async with AsyncRedis.from_url(redis_url) as redis:
        assert await governor(redis, "a", Frozen()).tick()
    assert server.hkeys(LANE) == ["hot"]
    assert server.get(LOCK) == "b"
