"""The reference to a request that is too large for Redis: it stays in the results store.

In place of the request, the payload of its job has `{"$stored": {"batch", "seq", "bytes"}}` and
what claims look at. The worker reads the request when it calls. Pure.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import msgspec

MARK: Final = b'{"$stored":'
"""How a reference begins. No request does: `$stored` is no field of one."""
LARGEST: Final = 32 << 20
"""Longest request, as the API has it, bytes."""


class StoredBody(msgspec.Struct, frozen=True):
    """Where the request of a job is: in the table `requests` of the store."""

    batch: str
    """The Message Batch, which must be the batch of the job."""
    seq: int
    """Its place in the batch."""
    bytes: int
    """Its size."""


class _Reference(msgspec.Struct, omit_defaults=True):
    stored: StoredBody = msgspec.field(name="$stored")
    model: str | msgspec.UnsetType = msgspec.UNSET
    max_tokens: int | msgspec.UnsetType = msgspec.UNSET
    speed: str | msgspec.UnsetType = msgspec.UNSET


class _Head(msgspec.Struct):
    """What claims look at in a request."""

    model: str | msgspec.UnsetType = msgspec.UNSET
    max_tokens: int | msgspec.UnsetType = msgspec.UNSET
    speed: str | msgspec.UnsetType | None = msgspec.UNSET


_reference: Final = msgspec.json.Decoder(_Reference)
_head: Final = msgspec.json.Decoder(_Head)


def reference_to(batch: str, seq: int, body: bytes) -> bytes:
    """Return the params of a payload whose request, `body`, is in the store."""
    head = _head.decode(body)
    made = _Reference(
        StoredBody(batch, seq, len(body)),
        head.model,
        head.max_tokens,
        head.speed or msgspec.UNSET,
    )
    return msgspec.json.encode(made)


def stored_body(params: bytes, batch: str | None) -> StoredBody | None:
    """Return where the request of a job of `batch` is; None when `params` are the request.

    A job must not refer to another batch: that may be another tenant's.
    """
    if not params.startswith(MARK):
        return None
    try:
        found = _reference.decode(params).stored
    except msgspec.MsgspecError:
        return None
    return found if found.batch == batch else None


def request_bytes(params: bytes) -> int:
    """Return the size of a job's request, wherever it is, bytes."""
    if params.startswith(MARK):
        with suppress(msgspec.MsgspecError):
            return _reference.decode(params).stored.bytes
    return len(params)
