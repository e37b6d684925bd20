"""Delivers notices: webhooks about one event, which wait in Redis until their URL accepts them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.queue import keys, notices
from nightmill_worker.events import WebhookDelivered, WebhookFailed
from nightmill_worker.limiter.account import fingerprint
from nightmill_worker.queue.lua_source import source
from nightmill_worker.webhooks.sender import wait_s

if TYPE_CHECKING:
    import random

    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

    from nightmill.queue.notices import Notice
    from nightmill.settings import Settings
    from nightmill_worker.events import Emit
    from nightmill_worker.webhooks.sender import Sender

AT_ONCE: Final = 64
"""Notices that one worker posts at once."""
SOON_MS: Final = 10_000
"""How long a process that ends waits for the next try of a notice."""
LEASE_MS: Final = 60_000
"""How long a notice that a worker posts is hidden from others; longer than a post may take."""


class Outbox:
    """The notices in Redis, for one worker."""

    def __init__(
        self, settings: Settings, redis: Redis, sender: Sender, emit: Emit, rng: random.Random
    ) -> None:
        """Take where notices are, and what sends them."""
        self._redis = redis
        self._sender = sender
        self._emit = emit
        self._rng = rng
        self._url = settings.webhook_url
        self._account = fingerprint(settings)
        self._take = redis.register_script(source("take_notices"))

    async def deliver(self) -> None:
        """Make a notice of an account that is stopped, and post all notices that are due."""
        if not self._sender.can_sign:
            return
        if self._url is not None:
            await self._watch_account(self._url)
        while taken := await self._take(args=[AT_ONCE, LEASE_MS]):
            pairs = zip(taken[::2], taken[1::2], strict=True)
            await asyncio.gather(*(self._try(name.decode(), raw) for name, raw in pairs))

    async def flush(self) -> None:
        """Post all notices that are due within SOON_MS, until none is: this process ends now."""
        if not self._sender.can_sign:
            return
        await self.deliver()
        while first := await self._redis.zrange(keys.NOTICES, 0, 0, withscores=True):
            wait_ms = first[0][1] - await self._sender.now_ms()
            if wait_ms > SOON_MS:
                return
            await asyncio.sleep(max(0, wait_ms) / 1000)
            await self.deliver()

    async def _watch_account(self, url: str) -> None:
        names = ("state", "reason", "stopped_at")
        found = await self._redis.execute_command("HMGET", keys.ACCOUNT + self._account, *names)
        state, reason, stopped_at = ((each or b"").decode(errors="replace") for each in found)
        if state == "stopped" and stopped_at.isdigit():
            name, notice = notices.of_account(self._account, url, reason, int(stopped_at))
            if not await self._redis.exists(keys.NOTICE + name):
                async with self._redis.pipeline(transaction=True) as pipe:
                    keep(pipe, name, notice)
                    await pipe.execute()

    async def _try(self, name: str, raw: bytes) -> None:
        """Post one notice. When this worker dies, another one does so after LEASE_MS."""
        notice = notices.decode(raw)
        if notice is None or not notice.body:
            await self._redis.zrem(keys.NOTICES, name)
            return
        reply = await self._sender.send(notice.url, name, notice.body.encode())
        tries, about = notice.tries + 1, f"{notice.type} {notice.about}"
        done = msgspec.structs.replace(notice, tries=tries, reason=reply.problem)
        if not reply.problem:
            self._emit(WebhookDelivered(batch="", about=about, tries=tries))
            await self._save(name, msgspec.structs.replace(done, state="delivered"), None)
            return
        again_s = None if reply.final else wait_s(tries, reply.retry_after_s, self._rng)
        self._emit(WebhookFailed(batch="", about=about, reason=reply.problem, again_s=again_s))
        state = "given_up" if again_s is None else "retrying"
        await self._save(name, msgspec.structs.replace(done, state=state), again_s)

    async def _save(self, name: str, notice: Notice, again_s: float | None) -> None:
        """Keep a notice after a try; `again_s` is the wait before the next one, None: no more."""
        now = await self._sender.now_ms()
        async with self._redis.pipeline(transaction=True) as pipe:
            if again_s is None:
                noted = msgspec.json.encode(msgspec.structs.replace(notice, body=""))
                pipe.set(keys.NOTICE + name, noted, px=keys.NOTICED_TTL_MS)
                pipe.zrem(keys.NOTICES, name)
            else:
                pipe.set(keys.NOTICE + name, msgspec.json.encode(notice), keepttl=True)
                pipe.zadd(keys.NOTICES, {name: now + int(again_s * 1000)})
            await pipe.execute()


def keep(pipe: Pipeline, name: str, notice: Notice) -> None:
    """Add the commands that keep a new notice; its first try is due at once."""
    pipe.set(keys.NOTICE + name, msgspec.json.encode(notice), nx=True, px=keys.NOTICE_TTL_MS)
    pipe.zadd(keys.NOTICES, {name: 0}, nx=True)
