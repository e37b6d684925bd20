"""Webhooks on completion: signed as Standard Webhooks says, and retried for a day.

Delivery looks for complete batches, posts, and stores the result in Redis, so that any worker goes
on after a restart. `signature` signs, `post` posts.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec
from redis import exceptions

from nightmill.errors import NightmillError
from nightmill.queue import keys, webhooks
from nightmill.queue.batches import Batches
from nightmill.queue.webhooks import Webhook
from nightmill.setting_values import signing_key
from nightmill_worker.events import WebhookDelivered, WebhookFailed
from nightmill_worker.webhooks.post import post
from nightmill_worker.webhooks.signature import sign

if TYPE_CHECKING:
    import random

    from redis.asyncio import Redis

    from nightmill.records.counts import Counts
    from nightmill.settings import Settings
    from nightmill_worker.events import Emit
    from nightmill_worker.webhooks.post import PostReply

LOOK_S: Final = 1.0
"""Time between two looks for complete batches, seconds."""
DUE_AT_ONCE: Final = 16
"""Batches of one look."""
LOCK_MS: Final = 60_000
"""Life of the lock that lets one worker at a time post for a batch; longer than a post may take."""
WAITS_S: Final = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 28_800)
"""Waits before the second try, the third and so on: a day in all. Then the webhook is given up."""
JITTER: Final = (0.8, 1.2)
"""Range of the random factor of a wait."""
PASSING: Final = (exceptions.RedisError, OSError, NightmillError)
"""Errors while Redis is away. The next look may find it back."""
NO_SECRET: Final = "the workers have no NIGHTMILL_WEBHOOK_SECRET"  # noqa: S105 - only its name


def wait_s(tries: int, asked_s: float, rng: random.Random) -> float | None:
    """Return the wait after `tries` failed ones, seconds. None: give up.

    `asked_s` is the receiver's retry-after. The wait is at least that, but at most the last of
    WAITS_S.
    """
    if tries > len(WAITS_S):
        return None
    return max(WAITS_S[tries - 1] * rng.uniform(*JITTER), min(asked_s, WAITS_S[-1]))


def body_of(batch: str, hook: Webhook, counts: Counts) -> bytes:
    """Return the body of a webhook. `cost` is in US dollars, null when a price is not known."""
    ends = ("succeeded", "failed", "cancelled", "expired")
    data = {
        "batch": batch,
        "counts": {"total": counts.total} | {name: getattr(counts, name) for name in ends},
        "tokens": {"input": counts.input_tokens, "output": counts.output_tokens},
        "cost": counts.cost,
    }
    at = datetime.fromtimestamp(hook.completed_at / 1000, UTC).isoformat(timespec="milliseconds")
    body = {"type": "batch.completed", "timestamp": at.replace("+00:00", "Z"), "data": data}
    return msgspec.json.encode(body)


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
        secret = settings.webhook_secret
        self._key = signing_key(secret.get_secret_value()) if secret else None
        self._allow_private = settings.webhook_allow_private
        self._redis = redis
        self._batches = Batches(redis)
        self._emit = emit
        self._rng = rng

    async def run(self) -> None:
        """Deliver until cancelled.

        A batch that a source still feeds is skipped: the feeding process delivers its webhook.
        """
        while True:
            with contextlib.suppress(*PASSING):
                due = await self._due()
                await asyncio.gather(*(self._try(batch) for batch in due))
            await asyncio.sleep(LOOK_S)

    async def see_to(self, batch: str, patience_s: float) -> None:
        """Deliver the webhook of one complete batch within `patience_s` seconds.

        The caller is the process that feeds the batch. What is not delivered by then is left to
        the workers.
        """
        with contextlib.suppress(*PASSING):
            async with asyncio.timeout(patience_s):
                while (due_ms := await self._redis.zscore(keys.WEBHOOKS, batch)) is not None:
                    await asyncio.sleep(max(0, due_ms - await self._now_ms()) / 1000)
                    await self._attend(batch, fed=True)

    async def _try(self, batch: str) -> None:
        with contextlib.suppress(*PASSING):  # an error of one batch must not stop the others
            await self._attend(batch)

    async def _due(self) -> list[str]:
        first = await self._redis.zrange(keys.WEBHOOKS, 0, DUE_AT_ONCE - 1, withscores=True)
        now = await self._now_ms() if first else 0
        names = [batch.decode(errors="replace") for batch, due_ms in first if due_ms <= now]
        return [name for name in names if "\ufffd" not in name]  # no batch has such a name

    async def _now_ms(self) -> int:
        seconds, micros = await self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def _attend(self, batch: str, *, fed: bool = False) -> None:
        """Deliver the webhook of `batch` if it is complete and no other worker is at it."""
        lock = keys.WEBHOOK + batch
        if not _over(await self._batches.counts(batch), fed=fed):
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
        due_ms = await self._now_ms() + int(by_s * 1000)
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
        elif self._key is None:
            await self._save(batch, raw, msgspec.structs.replace(hook, reason=NO_SECRET), LOOK_S)
        else:
            if hook.id != name:  # saved before the post: every later try sends the same body
                now = await self._now_ms()
                hook = Webhook(url=hook.url, id=name, completed_at=now, delivered=hook.delivered)
                if not await self._save(batch, raw, hook, 0):
                    return
                raw = msgspec.json.encode(hook)
            body = body_of(batch, hook, counts)
            hook, again_s = self._outcome(batch, hook, await self._post(self._key, hook, body))
            await self._save(batch, raw, hook, again_s)

    async def _post(self, key: bytes, hook: Webhook, body: bytes) -> PostReply:
        # Redis's clock: receivers refuse a time that is minutes off, as this machine's may be.
        now = await self._now_ms() // 1000
        headers = {
            "webhook-id": hook.id,
            "webhook-timestamp": str(now),
            "webhook-signature": sign(key, hook.id, now, body),
        }
        return await post(hook.url, body, headers, allow_private=self._allow_private)

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

    async def _save(self, batch: str, before: bytes, hook: Webhook, again_s: float | None) -> bool:
        """Store `hook` unless a client has changed it since `before`; return whether it is stored.

        It is due again in `again_s` seconds, None: never.
        """
        key = keys.BATCH + batch
        due_ms = await self._now_ms() + int((again_s or 0) * 1000)
        async with self._redis.pipeline(transaction=True) as pipe:
            while True:
                await pipe.watch(key)
                if await pipe.execute_command("HGET", key, webhooks.FIELD) != before:
                    return False
                pipe.multi()
                pipe.hset(key, webhooks.FIELD, msgspec.json.encode(hook).decode())
                if again_s is None:
                    pipe.zrem(keys.WEBHOOKS, batch)
                else:
                    pipe.zadd(keys.WEBHOOKS, {batch: due_ms})
                with contextlib.suppress(
                    exceptions.WatchError
                ):  # perhaps another field: look again
                    await pipe.execute()
                    return True
