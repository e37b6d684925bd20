"""Notes of workers that keep dying at start: what can be read of them is shown."""

from __future__ import annotations

import msgspec

from nightmill import load_settings
from nightmill.queue import crashes, keys
from nightmill.queue.connection import connect
from nightmill.queue.crashes import SHOWN_MS, Crash

CRASH = Crash(problem="RuntimeError: no disk", deaths=3, log="w.log")


async def test_a_crash_is_read_until_it_is_cleared(redis_url: str) -> None:
    """Its line names the exception and the log."""
    async with connect(load_settings(redis_url=redis_url)) as redis:
        await crashes.write(redis, CRASH)
        [crash] = await crashes.read(redis)
        assert str(crash) == (
            "workers keep dying at start: RuntimeError: no disk (3 times in a row; log: w.log)"
        )
        assert 0 < await redis.pttl(keys.CRASHES) <= keys.CRASHES_TTL_MS
        await crashes.clear(redis)
        assert await crashes.read(redis) == []


async def test_old_and_unreadable_notes_are_left_out(redis_url: str) -> None:
    """A killed supervisor cannot clear its note, and another version may write another form."""
    async with connect(load_settings(redis_url=redis_url)) as redis:
        await crashes.write(redis, CRASH)
        [crash] = await crashes.read(redis)
        old = msgspec.structs.replace(crash, at=crash.at - SHOWN_MS - 1000)
        notes = {"old": msgspec.json.encode(old), "odd": b'{"log": 1}', "bytes": b"\xff", "": b""}
        for name, note in notes.items():
            await redis.execute_command("HSET", keys.CRASHES, name, note)
        assert await crashes.read(redis) == [crash]
