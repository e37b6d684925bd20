"""A batch has one feeder at a time: the place is kept in Redis and renewed while it feeds."""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from contextlib import suppress
from importlib.resources import files
from typing import TYPE_CHECKING, Final, Self

from nightmill.errors import BatchBusyError, QueueUnavailableError
from nightmill.queue import keys, wire
from nightmill.queue.connection import redis_errors

if TYPE_CHECKING:
    from redis.asyncio import Redis

RENEW_S: Final = keys.FEEDER_TTL_MS / 5000
"""Between two renewals, seconds: four may fail before the place is lost."""


class FeederLock:
    """The place of `batch`'s one feeder, held within an `async with` block."""

    def __init__(self, redis: Redis, batch: str) -> None:
        """Use a client that the caller closes; nothing is sent yet."""
        self.batch = batch
        self._me = f"{socket.gethostname()} {os.getpid()} {uuid.uuid4().hex}"
        self._holder = self._me
        self._leaving = asyncio.Event()
        self._script = redis.register_script(_source())

    def __repr__(self) -> str:
        """Name the batch and who holds it, as far as is known."""
        return f"<FeederLock {self.batch} holder={self._holder!r}>"

    async def __aenter__(self) -> Self:
        """Take the place. Raises BatchBusyError while another process has it."""
        await self._ask()
        if _dead(self._holder):
            await self._ask(over=self._holder)
        self.require()
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave the place, unless another has it by now; without Redis it ends by itself."""
        self._leaving.set()  # before 3.12, wait_for inside redis-py may swallow a cancellation
        self._keeper.cancel()
        await asyncio.wait([self._keeper])  # a renewal after the release would take it back
        with suppress(QueueUnavailableError):
            await self._ask(keep_ms=0)

    def require(self) -> None:
        """Raise BatchBusyError when another process has the place."""
        if self._holder != self._me:
            host, pid, _ = self._holder.split()
            message = (
                f'batch "{self.batch}" is being fed by process {pid} on {host}: let it finish, or '
                f"end it and try again after {keys.FEEDER_TTL_MS // 1000} s"
            )
            raise BatchBusyError(message)

    async def _keep(self) -> None:
        while not self._leaving.is_set():
            await asyncio.sleep(RENEW_S)
            with suppress(QueueUnavailableError):
                await self._ask()

    async def _ask(self, *, over: str = "", keep_ms: int = keys.FEEDER_TTL_MS) -> None:
        with redis_errors():
            answer = await self._script(args=[self.batch, self._me, over, keep_ms])
        self._holder = answer.decode()


def _dead(holder: str) -> bool:
    """Whether `holder` was a process of this machine that is gone: a kill -9 costs no wait."""
    host, pid, _ = holder.split()
    if host != socket.gethostname():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _source() -> str:
    return wire.lua_prelude() + files("nightmill.queue").joinpath("lua/feeder.lua").read_text()
