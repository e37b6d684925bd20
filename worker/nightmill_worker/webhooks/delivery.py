"""Webhooks of batches: signed as Standard Webhooks says, and retried for a day.

Delivery looks for complete and held batches, posts, and stores the result in Redis, so that any
worker goes on after a restart. `outbox` has the webhooks about other events, `sender` signs and
posts.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import msgspec
from redis import exceptions

from nightmill.errors import NightmillError
from nightmill.queue import keys, notices, webhooks
from nightmill.queue.batches import Batches
from nightmill.queue.webhooks import Webhook
from nightmill_worker.events import WebhookDelivered, WebhookFailed
from nightmill_worker.webhooks.outbox import Outbox, keep
from nightmill_worker.webhooks.sender import NO_SECRET, Sender, wait_s

if TYPE_CHECKING:
    import random

    from redis.asyncio import Redis

    from nightmill.queue.notices import Notice
    from nightmill.records.counts import Counts
    from nightmill.settings import Settings
    from nightmill_worker.events import Emit
    from nightmill_worker.webhooks.reply import PostReply

LOOK_S: Final = 2.0
"""Time between two looks for complete batches, seconds."""
DUE_AT_ONCE: Final = 16
"""Batches of one look."""
LOCK_MS: Final = 60_000
"""Life of the lock that lets one worker at a time post for a batch; longer than a post may take."""
PASSING: Final = (exceptions.RedisError, OSError, NightmillError)
"""Errors while Redis is away. The next look may find it back."""


def body_of(batch: str, hook: Webhook, counts: Counts) -> bytes:
    """Return the body of the webhook on completion."""
    data = notices.about_batch(batch, counts)
    return notices.body_of("batch.completed", hook.completed_at, data).encode()


def _over(counts: Counts, *, fed: bool) -> bool:
    """Return whether a batch is complete.

    While a source feeds a batch it is complete only for the process that feeds it (`fed`).
    """
    over = counts.done or (counts.ended and counts.drained)
    return over and (fed or not counts.feeding)


class Delivery:
    """Delivers the webhooks of complete batches. Each worker and each `nightmill run` has one."""

    def __init__(self, settings: Settings, redis: Redis, emit: Emit, rng: random.Random) -> None:
        """Take the settings with the secret, and where batches are.

        Without a secret nothing is posted.
        """
        self._sender = Sender(settings, redis)
        self._outbox = Outbox(settings, redis, self._sender, emit, rng)
        self._redis = redis
        self._batches = Batches(redis)
        self._emit = emit
        self._rng = rng

    async def run(self) -> None:
        """Deliver until cancelled.

        A batch that a source still feeds is skipped: the feeding process delivers its webhook.
        """
        this = asyncio.current_task()
        # A cancellation that arrives as redis-py's wait ends is lost in Python 3.11: ask for it.
        while this is None or not this.cancelling():
            with contextlib.suppress(*PASSING):
                due = await self._due()
                await asyncio.gather(*(self._try(batch) for batch in due))
                await self._outbox.deliver()
            await asyncio.sleep(LOOK_S)

    async def see_to(self, batch: str, patience_s: float) -> None:
        """Deliver the webhook of a complete batch, and all notices, within `patience_s` seconds.

        The caller is the process that feeds the batch, and ends now. What is not delivered by then
        is left to the workers.
        """
        with contextlib.suppress(*PASSING):
            async with asyncio.timeout(patience_s):
                counts = await self._batches.counts(batch)
                over = _over(counts, fed=True)
                if not over:
                    await self._note_held(batch, counts)
                await self._outbox.flush()
                while over:
                    due_ms = await self._redis.zscore(keys.WEBHOOKS, batch)
                    if due_ms is None:
                        return
                    await asyncio.sleep(max(0, due_ms - await self._sender.now_ms()) / 1000)
                    await self._attend(batch, fed=True)

    async def _try(self, batch: str) -> None:
        with contextlib.suppress(*PASSING):  # an error of one batch must not stop the others
            await self._attend(batch)

    async def _due(self) -> list[str]:
        first = await self._redis.zrange(keys.WEBHOOKS, 0, DUE_AT_ONCE - 1, withscores=True)
        now = await self._sender.now_ms() if first else 0
        names = [batch.decode(errors="replace") for batch, due_ms in first if due_ms <= now]
        return [name for name in names if "\ufffd" not in name]  # no batch has such a name

    async def _attend(self, batch: str, *, fed: bool = False) -> None:
        """Deliver the webhook of `batch` if it is complete and no other worker is at it."""
        lock = keys.WEBHOOK + batch
        before = await self._batches.counts(batch)
        if not _over(before, fed=fed):
            await self._note_held(batch, before)
            await self._put_off(batch, LOOK_S)
        elif await self._redis.set(lock, b"1", nx=True, px=LOCK_MS):
            try:
                counts = await self._batches.counts(
                    batch
                )  # another worker may have delivered since
                if _over(counts, fed=fed):
                    await self._deliver(batch, counts)
            finally:  # shield: a shutdown may cancel twice, and a lock left would delay the next
                await asyncio.shield(self._redis.delete(lock))
        else:
            await asyncio.sleep(LOOK_S)

    async def _put_off(self, batch: str, by_s: float) -> None:
        due_ms = await self._sender.now_ms() + int(by_s * 1000)
        await self._redis.zadd(keys.WEBHOOKS, {batch: due_ms}, xx=True)

    async def _deliver(self, batch: str, counts: Counts) -> None:
        key = keys.BATCH + batch
        raw, created_at = await self._redis.execute_command(
            "HMGET", key, webhooks.FIELD, "created_at"
        )
        if raw is None:  # the batch was pruned
            await self._redis.zrem(keys.WEBHOOKS, batch)
            return
        hook = webhooks.decode(raw)
        name = webhooks.completion(batch, (created_at or b"").decode(errors="replace"), counts)
        if hook.delivered == name:
            await self._save(batch, raw, msgspec.structs.replace(hook, state="delivered"), None)
        elif not self._sender.can_sign:
            await self._save(batch, raw, msgspec.structs.replace(hook, reason=NO_SECRET), LOOK_S)
        else:
            if hook.id != name:  # saved before the post: every later try sends the same body
                now = await self._sender.now_ms()
                hook = msgspec.structs.replace(
                    hook, id=name, completed_at=now, state="waiting", tries=0, reason=""
                )
                if not await self._save(batch, raw, hook, 0):
                    return
                raw = msgspec.json.encode(hook)
            body = body_of(batch, hook, counts)
            hook, again_s = self._outcome(
                batch, hook, await self._sender.send(hook.url, hook.id, body)
            )
            await self._save(batch, raw, hook, again_s)

    async def _note_held(self, batch: str, counts: Counts) -> None:
        """Make a notice of a batch that is held since the last look, for the URL of its webhook."""
        flag = counts.flag if counts.flag in notices.HELD else ""
        hook = webhooks.decode(counts.webhook)
        if flag == hook.held or not hook.url or not self._sender.can_sign:
            return
        noted = msgspec.structs.replace(hook, held=flag, holds=hook.holds + bool(flag))
        made = None
        if flag:
            now = await self._sender.now_ms()
            name = notices.id_of(batch, flag, noted.holds, counts.reason, counts.terminal)
            made = name, notices.of_batch(batch, hook.url, counts, now)
        await self._save(batch, counts.webhook.encode(), noted, LOOK_S, made)

    def _outcome(self, batch: str, hook: Webhook, reply: PostReply) -> tuple[Webhook, float | None]:
        """Return the hook after a try and the wait before the next one, None when there is none."""
        replace, tries = msgspec.structs.replace, hook.tries + 1
        if not reply.problem:
            self._emit(WebhookDelivered(batch=batch, tries=tries))
            done = replace(hook, state="delivered", delivered=hook.id, tries=tries, reason="")
            return done, None
        again_s = None if reply.final else wait_s(tries, reply.retry_after_s, self._rng)
        self._emit(WebhookFailed(batch=batch, reason=reply.problem, again_s=again_s))
        state = "given_up" if again_s is None else "retrying"
        return replace(hook, state=state, tries=tries, reason=reply.problem), again_s

    async def _save(
        self,
        batch: str,
        before: bytes,
        hook: Webhook,
        again_s: float | None,
        notice: tuple[str, Notice] | None = None,
    ) -> bool:
        """Store `hook` unless a client has changed it since `before`; return whether it is stored.

        It is due again in `again_s` seconds, None: never. A `notice` is kept in the same step.
        """
        key = keys.BATCH + batch
        due_ms = await self._sender.now_ms() + int((again_s or 0) * 1000)
        async with self._redis.pipeline(transaction=True) as pipe:
            while True:
                await pipe.watch(key)
                if await pipe.execute_command("HGET", key, webhooks.FIELD) != before:
                    return False
                pipe.multi()
                pipe.hset(key, webhooks.FIELD, msgspec.json.encode(hook).decode())
                if notice is not None:
                    keep(pipe, *notice)
                if again_s is None:
                    pipe.zrem(keys.WEBHOOKS, batch)
                else:
                    pipe.zadd(keys.WEBHOOKS, {batch: due_ms})
                with contextlib.suppress(
                    exceptions.WatchError
                ):  # perhaps another field: look again
                    await pipe.execute()
                    return True
