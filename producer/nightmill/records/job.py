"""A job: one validated request with its name, its place in a batch and its deadline."""

from __future__ import annotations

import hashlib
import time

import msgspec


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What travels in arq's `k` (keyword arguments of `generate`), and nothing else.

    `params` is the request body as JSON, validated by `nightmill.params`. `seq` is the line number
    in the source (1-based), `expires_at` and `enqueued_at` are epoch ms, `run` counts requeues.
    """

    params: msgspec.Raw
    custom_id: str | None = None
    batch: str | None = None
    seq: int | None = None
    expires_at: int | None = None
    run: int = 0


REHEARSED = "rehearsed-"


def request_hash(params: bytes | msgspec.Raw, *, rehearsal: bool = False) -> str:
    """Return 16 hex digits that tell one request from another (model and settings included).

    That of a rehearsal is marked, so that a simulator's answer never passes for a real one.
    """
    digest = hashlib.blake2b(bytes(params), digest_size=8).hexdigest()
    return REHEARSED + digest if rehearsal else digest


def now_ms() -> int:
    """Return this machine's clock, epoch ms: for the story told, never for leases or due times."""
    return time.time_ns() // 1_000_000
