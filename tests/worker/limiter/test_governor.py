"""An account has one governor, and only that one writes orders."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from nightmill.queue import keys
from nightmill_worker.limiter.governor import Governor, Kept
from nightmill_worker.limiter.records import Caps

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCOUNT, MODEL = "account", "m"
LANE = f"{keys.LANE}{ACCOUNT}:{MODEL}"
LOCK = f"{keys.GOVERNOR}{ACCOUNT}"


@pytest.fixture
def server(redis_url: str) -> Iterator[Redis]:
    """Return a client of a server with a lane of this account and a lane of another one."""
    with Redis.from_url(redis_url, decode_responses=True) as client:
        client.sadd(keys.LANES, f"{ACCOUNT}:{MODEL}", "another:m")
        client.hset(LANE, "hot", "{}")
        client.hset(f"{keys.LANE}another:m", "hot", "{}")
        yield client


def governor(redis: AsyncRedis, worker: str, chance: random.Random | None = None) -> Governor:
    """Return the governor of the account on `worker`."""
    rng = chance or random.Random(1)
    return Governor(redis, account=ACCOUNT, worker=worker, caps=Caps(), rng=rng)


async def test_one_worker_governs_the_lanes_of_its_account(server: Redis, redis_url: str) -> None:
    """Two governors would run the law twice as often."""
    async with AsyncRedis.from_url(redis_url) as redis:
        assert await governor(redis, "a").tick()
        assert not await governor(redis, "b").tick()
    assert server.hkeys(LANE) == ["hot", "kept", "orders"]
    assert server.hkeys(f"{keys.LANE}another:m") == ["hot"]


async def test_a_governor_that_lost_the_lock_publishes_nothing(
    server: Redis, redis_url: str
) -> None:
    """A process that was frozen for longer than its lock must not overwrite newer orders."""

    class Frozen(random.Random):
        """Gives jitter, which a tick needs between its read and its write."""

        def random(self) -> float:
            server.set(LOCK, "b")
            return super().random()

    async with AsyncRedis.from_url(redis_url) as redis:
        assert await governor(redis, "a", Frozen()).tick()
    assert server.hkeys(LANE) == ["hot"]
    assert server.get(LOCK) == "b"


def test_the_names_in_a_lanes_hash_are_those_of_earlier_versions() -> None:
    """Workers of two versions govern the same lanes, one after the other."""
    stored = Path(__file__).with_name("stored_lane.json").read_bytes()
    kept = msgspec.json.decode(stored, type=Kept)
    assert json.loads(msgspec.json.encode(kept)) == json.loads(stored)
