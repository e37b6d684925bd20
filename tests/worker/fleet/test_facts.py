"""What a worker tells about itself, and how long it is believed."""

from __future__ import annotations

import os
import socket
from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from nightmill.queue import keys
from nightmill.queue.live_workers import Facts, LiveWorker, read_facts, read_live
from tests.rig import Rig, hello, rigged, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from redis.asyncio import Redis


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig without workers."""
    async with rigged(redis_url, tmp_path) as made:
        yield made


async def _told(redis: Redis) -> bool:
    live = await read_live(redis)
    return bool(live) and all((await read_facts(redis, live)).values())


async def test_a_worker_tells_its_version_host_process_and_memory(rig: Rig) -> None:
    """An operator of ten machines must see which one is old, full, or gone."""
    rig.sim.configure(latency_s=30)
    await rig.producer.enqueue(hello(), job_id="j")
    async with rig.working(max_in_flight=7) as worker:
        await until(lambda: _told(rig.redis))
        (live,) = await read_live(rig.redis)
        facts = (await read_facts(rig.redis, [live]))[worker.name]
        assert (facts.version, facts.host) == (version("nightmill"), socket.gethostname())
        assert (facts.pid, facts.most) == (os.getpid(), 7)
        assert facts.memory > 10 << 20
        assert live.held <= 1
        left_ms = await rig.redis.pttl(keys.WORKER + worker.name)
        assert 0 < left_ms <= keys.WORKER_TTL_MS


async def test_a_worker_of_an_older_version_tells_nothing(rig: Rig) -> None:
    """It is listed all the same: it claims jobs."""
    old = LiveWorker(name="old", at=1)
    await rig.redis.set(keys.WORKER + "bad", b"\xff{")
    bad = LiveWorker(name="bad", at=1)
    assert await read_facts(rig.redis, [old, bad]) == {"old": Facts(), "bad": Facts()}
    assert await read_facts(rig.redis, []) == {}
