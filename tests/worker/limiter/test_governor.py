"""An account has one governor, and only that one writes orders."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from nightmill.queue import keys
from nightmill_worker.events import LoopFailed
from nightmill_worker.limiter.governor import Governor, Kept, Published
from nightmill_worker.limiter.records import Caps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nightmill_worker.events import Emit, Event

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


def field(server: Redis, key: str, name: str) -> str:
    """Return a field of a hash."""
    return str(server.execute_command("HGET", key, name))


def governor(
    redis: AsyncRedis,
    worker: str,
    *,
    chance: random.Random | None = None,
    emit: Emit = lambda _event: None,
) -> Governor:
    """Return the governor of the account on `worker`."""
    rng = chance or random.Random(1)
    return Governor(redis, account=ACCOUNT, worker=worker, caps=Caps(), rng=rng, emit=emit)


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
        assert await governor(redis, "a", chance=Frozen()).tick()
    assert server.hkeys(LANE) == ["hot"]
    assert server.get(LOCK) == "b"


STORED = Path(__file__).with_name("stored_lane.json").read_bytes()
DEAD = re.sub(rb'"rate": (22|555|370)[0-9.]+', b'"rate": 0.0', STORED)
"""What an earlier version stored after a 429 that came before any answer, and then died of."""


@pytest.mark.parametrize(
    ("hot", "kept"),
    [
        (b"{", b""),
        (b"null", b""),
        (b'{"sent":"many"}', b""),
        (b'{"latency":NaN}', b""),
        (b'{"sent":1e400,"told":{"requests":{"limit":0,"most":0,"corrected":0}}}', b""),
        (b'{"told":{"output":{"limit":0,"most":0,"corrected":0}}}', b""),
        (b'{"sent":99,"ok":9}', b"\xff\xfe"),
        (b'{"sent":99,"ok":9}', b'{"law":null}'),
        (b'{"sent":99,"ok":9}', b'{"law":{"window":{"size":1e300}}}'),
        (b'{"sent":99,"ok":9}', b'{"law":{"at":1,"latency":-1e308,"pause":0}}'),
        (b'{"sent":99,"ok":9}', b'{"breaker":{"opened":99999,"state":"half"}}'),
        (b'{"sent":99,"ok":9}', b'{"meter":{"at":-1e9,"seen":{"requests":-1e308}}}'),
        (b'{"sent":99,"ok":9}', DEAD),
        (b'{"sent":99,"ok":9,"costs":{"b":{"answers":4}}}', DEAD),
    ],
)
async def test_a_lane_whose_state_cannot_be_used_starts_afresh_and_others_go_on(
    server: Redis, redis_url: str, hot: bytes, kept: bytes
) -> None:
    """An exception would end every worker that governs, for the cause stays in Redis."""
    bad = f"{keys.LANE}{ACCOUNT}:bad"
    server.sadd(keys.LANES, f"{ACCOUNT}:bad")
    server.hset(bad, mapping={"hot": hot, "kept": kept} if kept else {"hot": hot})
    async with AsyncRedis.from_url(redis_url) as redis:
        for _ in range(3):
            assert await governor(redis, "a").tick()
    for lane in (LANE, bad):
        assert msgspec.json.decode(field(server, lane, "orders"), type=Published).window >= 1
        assert msgspec.json.decode(field(server, lane, "kept"), type=Kept).law.window.size >= 1


async def test_a_lane_that_starts_afresh_is_reported_once_a_minute(
    server: Redis, redis_url: str
) -> None:
    """Ten events a second would hide all others."""
    server.hset(LANE, "hot", "{")
    events: list[Event] = []
    async with AsyncRedis.from_url(redis_url) as redis:
        one = governor(redis, "a", emit=events.append)
        assert await one.tick()
        assert await one.tick()
    (event,) = events
    assert isinstance(event, LoopFailed)
    assert event.loop == f"govern {ACCOUNT}:{MODEL}"


async def test_keys_of_a_wrong_type_do_not_stop_the_governor(server: Redis, redis_url: str) -> None:
    """Anybody with access to Redis can write them."""
    server.sadd(keys.LANES, f"{ACCOUNT}:text")
    server.set(f"{keys.LANE}{ACCOUNT}:text", "no hash")
    server.hset(LANE, "hot", '{"sent":9,"bound":{"window":1},"costs":{"b":{"answers":1}}}')
    server.hset(keys.BATCH + "b", "used_ms", "many")
    async with AsyncRedis.from_url(redis_url) as redis:
        one = governor(redis, "a")
        assert await one.tick()
        kept = msgspec.json.decode(field(server, LANE, "kept"))
        kept["law"]["clock"] = 100.0
        kept["law"]["window"]["roof"] = 5.0
        server.hset(LANE, "kept", msgspec.json.encode(kept).decode())
        assert await one.tick()
    assert server.hget(keys.BATCH + "b", "metered_ms") is not None
    assert server.hget(keys.BATCH + "b", "used_ms") == "many"


async def test_a_lock_from_before_the_clock_went_back_is_taken(
    server: Redis, redis_url: str
) -> None:
    """Redis keeps ends of life as moments: after a step back of a day, a lock would live a day."""
    server.set(LOCK, "dead", px=86_400_000)
    async with AsyncRedis.from_url(redis_url) as redis:
        assert await governor(redis, "a").tick()


def test_the_names_in_a_lanes_hash_are_those_of_earlier_versions() -> None:
    """Workers of two versions govern the same lanes, one after the other."""
    kept = msgspec.json.decode(STORED, type=Kept)
    assert within(json.loads(STORED), json.loads(msgspec.json.encode(kept)))


def within(before: object, now: object) -> bool:
    """Return whether `now` has all of `before`, under the same names. New names may be added."""
    if isinstance(before, dict) and isinstance(now, dict):
        return all(within(value, now.get(name)) for name, value in before.items())
    return before == now
