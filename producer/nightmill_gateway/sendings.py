"""Requests that are sent again: which job an earlier sending of the same request has made.

Under an Idempotency-Key a job is named for a day. Without one, a retry of an SDK takes over a job
whose answer was not written to its end, each one once. A job whose client still waits is nobody
else's: its gateway process is subscribed to a channel of its own, and Redis ends that subscription
when the process dies.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from redis.exceptions import WatchError

from nightmill.errors import NightmillError
from nightmill.queue import keys
from nightmill.queue.connection import redis_errors
from nightmill_gateway.answers.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web
    from redis.asyncio import Redis

    from nightmill_gateway.answers.sending import Sending

AGAIN_S: Final = 0.5
"""Between two tries to subscribe, seconds."""
LISTEN_S: Final = 5.0
LOST: Final = "-"
"""In place of a process, for a job whose client has left."""


class Sendings:
    """What the requests of all gateways have made, in Redis."""

    def __init__(self, redis: Redis) -> None:
        """Use a connection that is open while it runs."""
        self.redis = redis
        self.process = secrets.token_hex(8)

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """Show that this process lives, for the life of an application."""
        subscribed = asyncio.Event()
        task = asyncio.create_task(self._live(subscribed))
        with suppress(TimeoutError):
            async with asyncio.timeout(LISTEN_S):
                await subscribed.wait()
        yield
        task.cancel()
        await asyncio.wait([task])

    async def _live(self, subscribed: asyncio.Event) -> None:
        while True:
            with suppress(NightmillError), redis_errors():
                async with self.redis.pubsub() as channel:
                    await channel.subscribe(keys.GATEWAY + self.process)
                    while True:
                        await channel.get_message(timeout=LISTEN_S)
                        subscribed.set()
            await asyncio.sleep(AGAIN_S)

    async def lives(self, processes: set[str]) -> set[str]:
        """Return those of `processes` that run. Raises QueueUnavailableError."""
        names = [keys.GATEWAY + each for each in processes if each != LOST]
        if not names:
            return set()
        with redis_errors():
            found = await self.redis.pubsub_numsub(*names)
        return {name.decode().removeprefix(keys.GATEWAY) for name, number in found if number}

    def of(self, tenant: str, path: str, body: bytes, sent: Sending) -> Sent:
        """Return one request."""
        return Sent(self, tenant, path, body, sent)


class Sent:
    """One request, and the job that answers it. Its methods raise QueueUnavailableError."""

    def __init__(self, all_: Sendings, tenant: str, path: str, body: bytes, sent: Sending) -> None:
        """Take the request, and what its headers say of earlier sendings."""
        self._all, self._redis, self._sent = all_, all_.redis, sent
        self._digest = _hash(body)
        self._unread = keys.UNREAD + _hash(f"{tenant}\n{path}\n{self._digest}\n{sent.key}".encode())
        self._named = keys.NAMED + _hash(f"{tenant}\n{path}\n{sent.key}".encode())
        self.name = ""
        """The name of the job."""
        self.job_id = ""
        """The id of the job, which its handler makes of the name."""

    async def find(self, fresh: str) -> bool:
        """Set `name` to that of the earlier job, else to `fresh`; return whether it is earlier.

        Raises ApiError when the Idempotency-Key was used for another body.
        """
        found = None
        if self._sent.key is not None:
            found = await self._name(fresh)
        elif self._sent.again:
            found = await self._take()
        self.name = found or fresh
        await self._push(self._all.process)
        return found is not None

    async def _name(self, fresh: str) -> str | None:
        """Name `fresh` by the key, and return None; or return the job that it names."""
        with redis_errors():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(self._named, self._value(fresh), nx=True, px=keys.NAMED_TTL_MS)
                pipe.get(self._named)
                _, value = await pipe.execute()
        digest, _, name = (value or self._value(fresh)).decode().partition(" ")
        if digest != self._digest:
            raise key_taken()
        return None if name == fresh else name

    async def renew(self, fresh: str) -> bool:
        """Take `fresh` in place of an earlier job that has no answer; return whether it is new.

        Of several sendings under one key, one makes the new job; the others get its name.
        """
        await self._forget()
        value = self._value(fresh)
        if self._sent.key is not None:
            with redis_errors():
                async with self._redis.pipeline(transaction=True) as pipe:
                    with suppress(WatchError):
                        await pipe.watch(self._named)
                        if await pipe.get(self._named) == self._value(self.name):
                            pipe.multi()
                            pipe.set(self._named, value, keepttl=True)
                            await pipe.execute()
                value = await self._redis.get(self._named) or value
        self.name = value.decode().partition(" ")[2]
        await self._push(self._all.process)
        return self.name == fresh

    def _value(self, name: str) -> bytes:
        return f"{self._digest} {name}".encode()

    async def _take(self) -> str | None:
        """Return a job whose client has left, or whose process is dead; nobody else gets it."""
        found = await self._waiting()
        living = await self._all.lives({process for process, _ in found})
        for process, name in sorted(found, key=lambda each: each[0] != LOST):
            if process not in living and await self._remove(process, name):
                return name
        return None

    async def _waiting(self) -> list[tuple[str, str]]:
        """Return process and job of each sending whose client has no answer yet."""
        with redis_errors():
            found = await self._redis.execute_command("LRANGE", self._unread, 0, -1)
        return [_parts(each) for each in found]

    async def _push(self, process: str) -> None:
        with redis_errors():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.rpush(self._unread, f"{process} {self.name}")
                pipe.pexpire(self._unread, keys.UNREAD_TTL_MS)
                await pipe.execute()

    async def _remove(self, process: str, name: str) -> bool:
        with redis_errors():
            entry = f"{process} {name}"
            return bool(await self._redis.execute_command("LREM", self._unread, 1, entry))

    async def _forget(self) -> None:
        await self._remove(self._all.process, self.name)

    async def written(self) -> None:
        """Note that the answer was written to its end; without Redis, a retry may get it again."""
        with suppress(NightmillError):
            await self._forget()

    async def leave(self) -> bool:
        """Note that the client has left; return whether no other client waits for its job."""
        await self._forget()
        others = {process for process, name in await self._waiting() if name == self.name}
        return not await self._all.lives(others)

    async def lost(self) -> None:
        """Note that the client has left, and keep the job for a retry."""
        with suppress(NightmillError):
            await self._forget()
            await self.keep()

    async def keep(self) -> None:
        """Keep the job for a retry of the request."""
        await self._push(LOST)


def key_taken() -> ApiError:
    """Return the error of an Idempotency-Key that was used for another request."""
    return ApiError(409, "Idempotency-Key: was used for another body within 24 h; give another key")


def _hash(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _parts(entry: bytes) -> tuple[str, str]:
    process, _, name = entry.decode().partition(" ")
    return process, name
