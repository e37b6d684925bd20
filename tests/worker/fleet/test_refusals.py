"""A Redis that refuses for good ends a worker before its first claim; later it is waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nightmill.queue.connection import connect
from nightmill_worker.events import Events, RedisAway, RedisBack
from nightmill_worker.fleet.worker import FleetWorker
from nightmill_worker.queue.scripts import RedisUnusableError
from tests.rig import Rig, hello, rigged, until

if TYPE_CHECKING:
    from redis.asyncio import Redis

USER = ("ACL", "SETUSER", "limited")


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return everything but a worker, and a user who may do everything until a test takes it."""
    async with rigged(redis_url, tmp_path) as rig:
        await rig.redis.execute_command(*USER, "reset", "on", ">pw", "~*", "&*", "+@all")
        yield rig
        await rig.redis.execute_command("ACL", "DELUSER", "limited")


def limited_url(rig: Rig) -> str:
    """Return the URL of the limited user."""
    return f"unix://limited@{(rig.settings.redis_url or '').removeprefix('unix://')}?password=pw"


def limited_worker(rig: Rig, worker_redis: Redis) -> FleetWorker:
    """Return a worker that uses the limited user's connection."""
    events = Events()
    events.subscribe(rig.events.append)
    return FleetWorker(rig.settings, worker_redis, rig.store, rig.client, events=events)


@pytest.mark.parametrize("taken", ["-zadd", "-hmget", "-evalsha", "resetkeys"])
async def test_a_refused_worker_ends_with_the_fix(rig: Rig, taken: str) -> None:
    """The worker tried for ever, and nobody knew."""
    await rig.producer.enqueue(hello())
    await rig.redis.execute_command(*USER, taken)
    url = rig.settings.model_copy(update={"redis_url": limited_url(rig)})
    async with aclosing(connect(url)) as redis, asyncio.timeout(10):
        with pytest.raises(RedisUnusableError, match="ACL SETUSER"):
            await limited_worker(rig, redis).main()


async def test_a_later_refusal_stops_claims_until_it_is_over(rig: Rig) -> None:
    """The answers reach the store, the event has the fix, and the jobs are finished later."""
    rig.sim.configure(latency_s=0.2)
    await rig.producer.enqueue_many(hello(f"{i}") for i in range(4))
    url = rig.settings.model_copy(update={"redis_url": limited_url(rig)})
    async with aclosing(connect(url)) as redis:
        worker = limited_worker(rig, redis)
        running = asyncio.create_task(worker.main())
        await rig.sim.until(lambda: rig.sim.in_flight > 0)
        await rig.redis.execute_command(*USER, "-zrem")
        await until(lambda: rig.events_of(RedisAway))
        assert "ACL SETUSER" in rig.events_of(RedisAway)[0].problem
        await until(lambda: not rig.sim.in_flight)
        await rig.redis.execute_command(*USER, "+zrem")
        await until(lambda: rig.events_of(RedisBack))
        await rig.work_off()
        worker.stop()
        await running
    assert rig.calls() == 4
