"""Webhooks on completion: signed as Standard Webhooks says, retried, kept off private networks.

`sign` and `wait_s` are pure; Delivery looks for batches that are done, posts, and notes in Redis
what came of it, so that any worker goes on after a restart.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import msgspec
from redis import exceptions

from nightmill.errors import NightmillError
from nightmill.queue import keys, webhooks
from nightmill.queue.batches import Batches
from nightmill.queue.webhooks import Webhook
from nightmill.settings import signing_key
from nightmill_worker.events import WebhookDelivered, WebhookFailed
from nightmill_worker.webhooks.post import post

if TYPE_CHECKING:
    import random

    from redis.asyncio import Redis

    from nightmill.records.counts import Counts
    from nightmill.settings import Settings
    from nightmill_worker.events import Emit
    from nightmill_worker.webhooks.post import Answer

LOOK_S: Final = 1.0
DUE_AT_ONCE: Final = 16
LOCK_MS: Final = 60_000
"""Longer than a post may take: one worker at a time tells of a batch."""
WAITS_S: Final = (5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 28_800)
"""Before the second try, the third ..; a day together, then it is given up."""
JITTER: Final = (0.8, 1.2)
PASSING: Final = (exceptions.RedisError, OSError, NightmillError)
"""Redis is away: the next look may find it back."""
NO_SECRET: Final = "the workers have no NIGHTMILL_WEBHOOK_SECRET"  # noqa: S105 - its name


def sign(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the webhook-signature of a body; `timestamp` is when it is sent, epoch seconds."""
    content = f"{message_id}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()}"


def wait_s(tries: int, asked_s: float, rng: random.Random) -> float | None:
    """Return the seconds to wait after `tries` failed, at least what was asked; None: give up."""
    if tries > len(WAITS_S):
        return None
    return max(WAITS_S[tries - 1] * rng.uniform(*JITTER), min(asked_s, WAITS_S[-1]))


def body_of(batch: str, hook: Webhook, counts: Counts) -> bytes:
    """Return what is told of a batch; its cost is in US dollars, None when a price is not known."""
    ends = ("succeeded", "failed", "cancelled", "expired")
    data = {
        "batch": batch,
        "counts": {"total": counts.total} | {name: getattr(counts, name) for name in ends},
        "tokens": {"input": counts.input_tokens, "output": counts.output_tokens},
        "cost": counts.cost,
    }
    at = datetime.fromtimestamp(hook.completed_at / 1000, UTC).isoformat(timespec="milliseconds")
    told = {"type": "batch.completed", "timestamp": at.replace("+00:00", "Z"), "data": data}
    return msgspec.json.encode(told)


def _over(counts: Counts, *, fed: bool) -> bool:
    """Tell whether a batch is done, or ended; one that is being `fed` only to who feeds it."""
    over = counts.done or (counts.ended and counts.drained)
    return over and (fed or not counts.feeding)


class Delivery:
    """Tells of batches that are done; every worker has one, and so has `nightmill run`."""

    def __init__(self, settings: Settings, redis: Redis, emit: Emit, rng: random.Random) -> None:
        """Take the secret (none: nothing is told), and where batches are."""
        secret = settings.webhook_secret
        self._key = signing_key(secret.get_secret_value()) if secret else None
        self._allow_private = settings.webhook_allow_private
        self._redis = redis
        self._batches = Batches(redis)
        self._emit = emit
        self._rng = rng

    async def run(self) -> None:
        """Tell of batches until cancelled; a batch that is being fed is its feeder's to end."""
        while True:
            with contextlib.suppress(*PASSING):
                due = await self._due()
                await asyncio.gather(*(self._try(batch) for batch in due))
            await asyncio.sleep(LOOK_S)

    async def see_to(self, batch: str, patience_s: float) -> None:
        """Tell of one batch that is done, also while it is being fed, within `patience_s` seconds.

        What is not told by then stays to be told by a worker.
        """
        with contextlib.suppress(*PASSING):
            async with asyncio.timeout(patience_s):
                while (due_ms := await self._redis.zscore(keys.WEBHOOKS, batch)) is not None:
                    await asyncio.sleep(max(0, due_ms - await self._now_ms()) / 1000)
                    await self._attend(batch, fed=True)

    async def _try(self, batch: str) -> None:
        with contextlib.suppress(*PASSING):  # one batch's trouble is not another's
            await self._attend(batch)

    async def _due(self) -> list[str]:
        first = await self._redis.zrange(keys.WEBHOOKS, 0, DUE_AT_ONCE - 1, withscores=True)
        now = await self._now_ms() if first else 0
        return [batch.decode() for batch, due_ms in first if due_ms <= now]

    async def _now_ms(self) -> int:
        seconds, micros = await self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def _attend(self, batch: str, *, fed: bool = False) -> None:
        """Tell of `batch` if it is done and nobody else does."""
        lock = keys.WEBHOOK + batch
        if not _over(await self._batches.counts(batch), fed=fed):
            await self._put_off(batch, LOOK_S)
        elif await self._redis.set(lock, b"1", nx=True, px=LOCK_MS):
            try:
                counts = await self._batches.counts(batch)  # those before may be told by now
                if _over(counts, fed=fed):
                    await self._tell(batch, counts)
            finally:  # a shutdown cancels more than once, and the next worker must find no lock
                await asyncio.shield(self._redis.delete(lock))
        else:
            await asyncio.sleep(LOOK_S)

    async def _put_off(self, batch: str, by_s: float) -> None:
        due_ms = await self._now_ms() + int(by_s * 1000)
        await self._redis.zadd(keys.WEBHOOKS, {batch: due_ms}, xx=True)

    async def _tell(self, batch: str, counts: Counts) -> None:
        key = keys.BATCH + batch
        raw, created_at = await self._redis.execute_command(
            "HMGET", key, webhooks.FIELD, "created_at"
        )
        if raw is None:  # the batch was forgotten
            await self._redis.zrem(keys.WEBHOOKS, batch)
            return
        hook = webhooks.decode(raw)
        name = webhooks.completion(batch, (created_at or b"").decode(), counts)
        if hook.delivered == name:
            await self._note(batch, raw, msgspec.structs.replace(hook, state="delivered"), None)
        elif self._key is None:
            await self._note(batch, raw, msgspec.structs.replace(hook, reason=NO_SECRET), LOOK_S)
        else:
            if hook.id != name:  # noted before it is told: whoever tells it again says the same
                seen = await self._now_ms()
                hook = Webhook(url=hook.url, id=name, completed_at=seen, delivered=hook.delivered)
                if not await self._note(batch, raw, hook, 0):
                    return
                raw = msgspec.json.encode(hook)
            body = body_of(batch, hook, counts)
            hook, again_s = self._outcome(batch, hook, await self._post(self._key, hook, body))
            await self._note(batch, raw, hook, again_s)

    async def _post(self, key: bytes, hook: Webhook, body: bytes) -> Answer:
        now = await self._now_ms() // 1000  # receivers refuse what is minutes off: not our clock
        headers = {
            "webhook-id": hook.id,
            "webhook-timestamp": str(now),
            "webhook-signature": sign(key, hook.id, now, body),
        }
        return await post(hook.url, body, headers, allow_private=self._allow_private)

    def _outcome(self, batch: str, hook: Webhook, answer: Answer) -> tuple[Webhook, float | None]:
        """Return the hook after a try, and the wait before the next, None when there is none."""
        replace, tries = msgspec.structs.replace, hook.tries + 1
        if not answer.problem:
            self._emit(WebhookDelivered(batch=batch, tries=tries))
            done = replace(hook, state="delivered", delivered=hook.id, tries=tries, reason="")
            return done, None
        again_s = None if answer.final else wait_s(tries, answer.retry_after_s, self._rng)
        self._emit(WebhookFailed(batch=batch, reason=answer.problem, again_s=again_s))
        state = "given_up" if again_s is None else "retrying"
        return replace(hook, state=state, tries=tries, reason=answer.problem), again_s

    async def _note(self, batch: str, before: bytes, hook: Webhook, again_s: float | None) -> bool:
        """Keep how far it is, unless it was asked for anew meanwhile; tells whether it is kept."""
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
                with contextlib.suppress(exceptions.WatchError):  # some other field, perhaps
                    await pipe.execute()
                    return True
