"""Webhooks of batches, the client's half: which URL a batch posts to, and the delivery's state.

Workers deliver them (nightmill_worker.webhooks). Both halves share the batch's Webhook in Redis.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

import msgspec

from nightmill.errors import SettingsError
from nightmill.queue import keys
from nightmill.records.bounds import DateMs, Int64

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nightmill.records.counts import Counts

FIELD: Final = "webhook"
"""Field of the batch's hash that holds its Webhook as JSON."""
MAX_URL: Final = 2048
"""Characters of a URL."""


class Webhook(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The webhook of a batch and the state of its delivery.

    `id` and `completed_at` are stored before the first try, so that every try sends the same body.
    """

    url: str
    state: Literal["waiting", "retrying", "delivered", "given_up"] = "waiting"
    id: str = ""
    """The webhook-id of the completion that is being delivered or was delivered last."""
    completed_at: DateMs = 0
    """When a worker first found the batch complete, epoch ms."""
    tries: Int64 = 0
    """Posts so far."""
    delivered: str = ""
    """The webhook-id that `url` has accepted, "" when it has accepted none."""
    reason: str = ""
    """Why the last try failed, or why there was none yet."""
    held: str = ""
    """The flag of the batch that a notice was made of last, "" since it was resumed."""
    holds: Int64 = 0
    """How many such notices were made."""


_decoder: Final = msgspec.json.Decoder(Webhook)


def decode(raw: bytes | str) -> Webhook:
    """Return the Webhook of a batch's hash; one that cannot be read is given up."""
    try:
        return _decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Webhook(url="", state="given_up", reason="its record in Redis cannot be read")


def require_url(url: str, field: str = "on-complete") -> None:
    """Raise SettingsError unless `url` is an http(s) address that a webhook may go to."""
    problem = f"{field}: not an http(s) address (given: {url[:100]!r})"
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # the port is no number, or a bracket is not closed
        raise SettingsError(problem) from None
    if not fine or len(url) > MAX_URL or not url.isprintable() or " " in url:
        raise SettingsError(problem)
    if parts.username or parts.password:  # the message does not show the URL: it holds a secret
        problem = f"{field}: holds a user or password; the receiver checks the signature instead"
        raise SettingsError(problem)


async def arm(redis: Redis, batch: str, url: str) -> None:
    """Post to `url` when `batch` completes next. A completion that `url` accepted is not repeated.

    A completion that a worker has found keeps its id and its time, also for a new URL.

    Raises SettingsError for a bad `url`, QueueUnavailableError.
    """
    from nightmill.queue.connection import redis_errors  # noqa: PLC0415 - needs Redis's client

    require_url(url)
    key = keys.BATCH + batch
    with redis_errors():
        raw = await redis.execute_command("HGET", key, FIELD)
        before = decode(raw) if raw else Webhook(url=url)
        accepted = before.delivered if before.url == url else ""
        hook = Webhook(
            url=url,
            id=before.id,
            completed_at=before.completed_at,
            delivered=accepted,
            held=before.held,
            holds=before.holds,
        )
        async with redis.pipeline(transaction=True) as pipe:
            pipe.hset(key, FIELD, msgspec.json.encode(hook).decode())
            pipe.zadd(keys.WEBHOOKS, {batch: 0})
            await pipe.execute()


def completion(batch: str, created_at: str, counts: Counts) -> str:
    """Return the webhook-id of a completion: a hash of all that its body says, but not of its time.

    Receivers recognise a repeated delivery by it.
    """
    ends = (counts.total, counts.succeeded, counts.failed, counts.cancelled, counts.expired)
    took = (counts.input_tokens, counts.output_tokens, counts.cost)
    content = msgspec.json.encode([batch, created_at, ends, took])
    return f"msg_{hashlib.blake2b(content, digest_size=16).hexdigest()}"


def describe(hook: Webhook) -> str:
    """Return the state of a delivery in a few words, for people."""
    match hook.state:
        case "delivered":
            return "delivered"
        case "given_up":
            return f"given up ({hook.reason})"
        case "retrying":
            return f"retrying after {hook.tries} tries ({hook.reason})"
        case _:
            return f"waiting ({hook.reason})" if hook.reason else "waiting"
