"""The lock of a batch's feeder: it stands in Redis and is renewed while the feeder works.

A renewal may fail for longer than the lock lives. So its holder calls `require` before each
write: a lock that may have run out is taken again first, unless another process has it by now.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from nightmill.errors import BatchBusyError, QueueFullError, QueueUnavailableError
from nightmill.queue import keys, wire
from nightmill.queue.connection import redis_errors

if TYPE_CHECKING:
    from redis.asyncio import Redis

RENEW_S: Final = keys.FEEDER_TTL_MS / 5000
"""Time between two renewals, seconds: four in a row may fail before the lock is lost."""
SURE_S: Final = keys.FEEDER_TTL_MS / 1500
"""So long after its last renewal began the lock surely lives, seconds."""


class FeederLock:
    """Held within an `async with` block, it makes this process the only feeder of `batch`."""

    def __init__(self, redis: Redis, batch: str) -> None:
        """Use a client that the caller closes; nothing is sent yet."""
        self.batch = batch
        self._me = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex}"
        self._holder = self._me
        self._renewed_at = -SURE_S
        self._script = redis.register_script(wire.script("feeder"))

    def __repr__(self) -> str:
        """Name the batch, and the holder as of the last renewal."""
        return f"<FeederLock {self.batch} holder={self._holder!r}>"

    async def __aenter__(self) -> Self:
        """Take the lock. Raises BatchBusyError while another process has it."""
        await self._take()
        if _dead(self._holder):
            await self._take(from_dead=self._holder)
        self._require_mine()
        self._renewing = asyncio.create_task(self._renew())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Release the lock if this process still has it; while Redis is away, it expires."""
        self._renewing.cancel()
        await asyncio.wait([self._renewing])  # a renewal after the release would take it back
        with suppress(QueueUnavailableError, QueueFullError):
            await self._take(for_ms=0)

    async def require(self) -> None:
        """Raise BatchBusyError when another process has the lock.

        Raises QueueUnavailableError when the lock may have run out and Redis is away.
        """
        if time.monotonic() - self._renewed_at > SURE_S:
            await self._take()
        self._require_mine()

    def _require_mine(self) -> None:
        if self._holder != self._me:
            host, pid = _place(self._holder)
            message = (
                f'batch "{self.batch}" is being fed by process {pid} on {host}: let it finish, or '
                f"end it and try again after {keys.FEEDER_TTL_MS // 1000} s"
            )
            raise BatchBusyError(message)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            with suppress(QueueUnavailableError, QueueFullError):
                await self._take()

    async def _take(self, *, from_dead: str = "", for_ms: int = keys.FEEDER_TTL_MS) -> None:
        """Take or renew the lock for `for_ms` (0 releases it), also from `from_dead`."""
        began = time.monotonic()
        with redis_errors():
            answer = await self._script(args=[self.batch, self._me, from_dead, for_ms])
        self._holder = answer.decode(errors="replace")
        if self._holder == self._me:
            self._renewed_at = began


def _place(holder: str) -> tuple[str, str]:
    """Return the host and the process of `holder`; "?" where another program wrote the lock."""
    host, pid, *_ = [*holder.split(), "?", "?"]
    return host, pid


def _dead(holder: str) -> bool:
    """Tell whether `holder` is a process of this machine that has ended.

    So the same command works again right after a kill -9.
    """
    host, pid = _place(holder)
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False
