"""Notes of workers that cannot work, which `run` and `status` show.

A supervisor notes why its workers die soon after each start. A worker that runs notes its troubles:
a store that is away, a Redis that refuses a command.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from nightmill.queue import keys
from nightmill.queue.connection import redis_errors

if TYPE_CHECKING:
    from redis.asyncio import Redis

TROUBLE_SHOWN_MS: Final = 20_000
"""A trouble is shown for so long after its last note, ms: its worker writes it every 5 s."""
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


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that runs cannot go on as it should."""

    problem: str
    """All its troubles, on one line: "store away: its disk is full"."""
    at: int = 0
    """When it was noted last, epoch ms by Redis's clock; 0: not written yet."""

    def __str__(self) -> str:
        """Return one line for a person."""
        return f"trouble: {self.problem}"


N = TypeVar("N", Crash, Trouble)

_crash, _trouble = msgspec.json.Decoder(Crash), msgspec.json.Decoder(Trouble)


async def write(redis: Redis, crash: Crash) -> None:
    """Note a crash of this process's workers. Raises QueueUnavailableError."""
    with redis_errors():
        await _note(redis, keys.CRASHES, _own_name(), crash)


async def note_trouble(redis: Redis, worker: str, problem: str) -> None:
    """Note the troubles of a worker, "" when it has none. Raises redis-py's errors."""
    if problem:
        await _note(redis, keys.TROUBLES, worker, Trouble(problem=problem))
    else:
        await redis.execute_command("HDEL", keys.TROUBLES, worker)


async def clear(redis: Redis) -> None:
    """Remove the crash of this process's workers. Raises QueueUnavailableError."""
    with redis_errors():
        await redis.execute_command("HDEL", keys.CRASHES, _own_name())


async def read(redis: Redis) -> list[Crash]:
    """Return the crashes of all supervisors, without those that are over or cannot be read."""
    return await _read(redis, keys.CRASHES, _crash, SHOWN_MS)


async def read_troubles(redis: Redis) -> list[str]:
    """Return one line for each trouble that a worker has now; equal ones once."""
    found = await _read(redis, keys.TROUBLES, _trouble, TROUBLE_SHOWN_MS)
    return sorted({str(trouble) for trouble in found})


async def _note(redis: Redis, key: str, name: str, note: Crash | Trouble) -> None:
    seconds, micros = await redis.execute_command("TIME")
    at = int(seconds) * 1000 + int(micros) // 1000
    data = msgspec.json.encode(msgspec.structs.replace(note, at=at))
    async with redis.pipeline(transaction=True) as pipe:
        pipe.hset(key, name, data)  # type: ignore[arg-type]
        pipe.pexpire(key, keys.CRASHES_TTL_MS)
        await pipe.execute()


async def _read(redis: Redis, key: str, decoder: msgspec.json.Decoder[N], shown_ms: int) -> list[N]:
    """Return the notes that are not over and can be read."""
    with redis_errors():
        seconds, _ = await redis.execute_command("TIME")
        found = await redis.execute_command("HVALS", key)
    notes: list[N] = []
    for data in found:
        # A note of another version, or a damaged one, is left out.
        with suppress(msgspec.MsgspecError, UnicodeDecodeError):
            notes.append(decoder.decode(data))
    since = int(seconds) * 1000 - shown_ms
    return [note for note in notes if note.at >= since]


def _own_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"
