"""A batch that came through the HTTP gateway, as the results store keeps it. Times are epoch ms."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from nightmill.records.counts import Counts

ID: Final = "msgbatch_[0-9a-f]{32}"
_ID: Final = re.compile(ID)
SAME_MS: Final = 5_000
"""Redis has the deadline in whole seconds of its own clock."""


class MessageBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What the store knows of a batch of requests, beside its jobs and rows."""

    batch: str
    """Its id, which is also the name of the batch: `msgbatch_...`. Later ids sort behind."""
    tenant: str
    """Who made it; nobody else sees it."""
    total: int
    """How many requests it has."""
    created_at: int
    expires_at: int
    """When requests that were not called yet expire."""
    anthropic_version: str | None = None
    """The API version that its calls ask for; None: the workers' own."""
    anthropic_beta: str | None = None
    """The betas that its calls ask for, with commas."""
    cancel_initiated_at: int | None = None
    ended_at: int | None = None
    """When every request had its result; the counts below are final then, and None before."""
    succeeded: int | None = None
    errored: int | None = None
    canceled: int | None = None
    expired: int | None = None
    deleted_at: int | None = None
    """When it was deleted; its rows are removed after that."""
    digest: str | None = None
    """Hash of the body of its create."""
    idempotency_key: str | None = None
    """What the client named its create; None: nothing."""
    answered_at: int | None = None
    """When the answer to its create was written to its end; None: it may be lost."""
    key_id: str | None = None
    """The key that made it, whose budget pays for it; None: it was made without a key."""


class StoredRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request of such a batch."""

    seq: int
    """Its place in the batch, from 1."""
    custom_id: str
    model: str
    body: bytes
    """The request to send, JSON."""


def new_id(at_ms: int) -> str:
    """Return the id of a batch made at `at_ms`; ids of later batches sort behind it."""
    return f"msgbatch_{at_ms:012x}{secrets.token_hex(10)}"


def id_before(at_ms: int) -> str:
    """Return a text that sorts behind all ids of batches that were made before `at_ms`."""
    return f"msgbatch_{at_ms:012x}"


def is_id(text: str) -> bool:
    """Tell whether `text` can be the id of a batch."""
    return _ID.fullmatch(text) is not None


def deadline(batch: MessageBatch, counts: Counts) -> int:
    """Return when the batch expires, epoch ms: `nightmill adjust` may have changed it."""
    limit = counts.limits.expires_at
    if limit is None or abs(limit - batch.expires_at) < SAME_MS:
        return batch.expires_at
    return limit
