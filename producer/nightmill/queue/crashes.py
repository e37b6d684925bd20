"""Workers that die soon after each start: a supervisor writes why, `status` shows it."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.queue import keys
from nightmill.queue.connection import redis_errors

if TYPE_CHECKING:
    from redis.asyncio import Redis

SHOWN_MS: Final = 180_000
"""A crash is shown for so long after its last death, ms: supervisors that go on write it again."""


class Crash(msgspec.Struct, frozen=True, kw_only=True):
    """Workers of one supervisor keep dying within a minute of their start."""

    problem: str
    """How the last one ended: the exception's type and text, or the exit code."""
    deaths: int
    """Deaths in a row, each within a minute of the start."""
    log: str = ""
    """Path of the workers' log, "" when it goes to the supervisor's stderr."""
    at: int = 0
    """When the last one died, epoch ms by Redis's clock; 0: not written yet."""

    def __str__(self) -> str:
        """Return one line for a person."""
        where = f"; log: {self.log}" if self.log else ""
        return f"workers keep dying at start: {self.problem} ({self.deaths} times in a row{where})"


_decoder = msgspec.json.Decoder(Crash)


async def write(redis: Redis, crash: Crash) -> None:
    """Note a crash of this process's workers. Raises QueueUnavailableError."""
    with redis_errors():
        seconds, micros = await redis.execute_command("TIME")
        at = int(seconds) * 1000 + int(micros) // 1000
        data = msgspec.json.encode(msgspec.structs.replace(crash, at=at))
        async with redis.pipeline(transaction=True) as pipe:
            pipe.hset(keys.CRASHES, _own_name(), data)  # type: ignore[arg-type]
            pipe.pexpire(keys.CRASHES, keys.CRASHES_TTL_MS)
            await pipe.execute()


async def clear(redis: Redis) -> None:
    """Remove the crash of this process's workers. Raises QueueUnavailableError."""
    with redis_errors():
        await redis.execute_command("HDEL", keys.CRASHES, _own_name())


async def read(redis: Redis) -> list[Crash]:
    """Return the crashes of all supervisors, without those that are over or cannot be read."""
    with redis_errors():
        seconds, _ = await redis.execute_command("TIME")
        found = await redis.execute_command("HVALS", keys.CRASHES)
    since = int(seconds) * 1000 - SHOWN_MS
    return [crash for data in found if (crash := _read(data)) and crash.at >= since]


def _read(data: bytes) -> Crash | None:
    try:
        return _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):  # of another version, or damaged
        return None


def _own_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
