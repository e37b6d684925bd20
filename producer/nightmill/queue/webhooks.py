"""Webhooks on completion, the client's half: which batch tells whom, and how far that is.

Workers deliver them (nightmill_worker.webhooks); between them stands the batch's Webhook in Redis.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

import msgspec

from nightmill.errors import SettingsError
from nightmill.queue import keys
from nightmill.queue.connection import redis_errors

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nightmill.records.counts import Counts

FIELD: Final = "webhook"
"""Of the batch's hash: its Webhook as JSON."""
MAX_URL: Final = 2048


class Webhook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a batch's completion is told, and how far that is.

    `id` names the completion that is or was told (the webhook-id), `completed_at` is when it was
    first seen (epoch ms): both are kept before the first try, so that every try says the same.
    `delivered` names the one that `url` has accepted, `reason` is why the last of `tries` failed.
    """

    url: str
    state: Literal["waiting", "retrying", "delivered", "given_up"] = "waiting"
    id: str = ""
    completed_at: int = 0
    tries: int = 0
    delivered: str = ""
    reason: str = ""


decode: Final = msgspec.json.Decoder(Webhook).decode


def require_url(url: str) -> None:
    """Raise SettingsError unless `url` is an http(s) address that a webhook may go to."""
    problem = f"on-complete: not an http(s) address (given: {url[:100]!r})"
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a bracket too many
        raise SettingsError(problem) from None
    if not fine or len(url) > MAX_URL or not url.isprintable() or " " in url:
        raise SettingsError(problem)
    if parts.username or parts.password:  # not shown: it is a secret
        problem = "on-complete: holds a user or password; the receiver checks the signature instead"
        raise SettingsError(problem)


async def arm(redis: Redis, batch: str, url: str) -> None:
    """Have `url` told when `batch` is done next; what it accepted already is not told again.

    A completion that was seen keeps its id and its time, whoever is told of it.

    Raises SettingsError for what is no address, QueueUnavailableError.
    """
    require_url(url)
    key = keys.BATCH + batch
    with redis_errors():
        raw = await redis.execute_command("HGET", key, FIELD)
        before = decode(raw) if raw else Webhook(url=url)
        accepted = before.delivered if before.url == url else ""
        hook = Webhook(url=url, id=before.id, completed_at=before.completed_at, delivered=accepted)
        async with redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, FIELD, msgspec.json.encode(hook).decode())
            pipe.zadd(keys.WEBHOOKS, {batch: 0})
            await pipe.execute()


def completion(batch: str, created_at: str, counts: Counts) -> str:
    """Name a completion by all that is told of it but its time: receivers know it again."""
    ends = (counts.total, counts.succeeded, counts.failed, counts.cancelled, counts.expired)
    took = (counts.input_tokens, counts.output_tokens, counts.cost)
    seen = msgspec.json.encode([batch, created_at, ends, took])
    return f"msg_{hashlib.blake2b(seen, digest_size=16).hexdigest()}"


def told(hook: Webhook) -> str:
    """Say in a few words how far a webhook is."""
    match hook.state:
        case "delivered":
            return "delivered"
        case "given_up":
            return f"given up ({hook.reason})"
        case "retrying":
            return f"retrying after {hook.tries} tries ({hook.reason})"
        case _:
            return f"waiting ({hook.reason})" if hook.reason else "waiting"
