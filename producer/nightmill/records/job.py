"""A job: one validated request with its ids, its batch and its deadline."""

from __future__ import annotations

import hashlib
import time
from typing import Final

import msgspec

from nightmill.records.api import NO_API, Api, Betas, Version
from nightmill.records.bounds import Int64, Run
from nightmill.records.message import NULL


class Job(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The object `k` of a payload: the keyword arguments that arq passes to `generate`."""

    params: msgspec.Raw
    """The request body as JSON, validated by `nightmill.params`."""
    custom_id: str | None = None
    batch: str | None = None
    """The batch's name; None for a single job."""
    seq: Int64 | None = None
    """Line number in the source, from 1; None when there is no source."""
    expires_at: Int64 | None = None
    """Deadline, epoch ms by Redis's clock; None for no deadline."""
    on_complete: str | None = None
    """Where a webhook goes when this single job has ended; None for nowhere."""
    accept: msgspec.Raw = NULL
    """What is accepted as its result (JSON, see Acceptance), instead of its batch's."""
    run: Run = 0
    """0 for the first run; each requeue adds 1."""
    anthropic_version: Version | None = None
    """See Api."""
    anthropic_beta: Betas = ()
    traceparent: str | None = None
    """The span that enqueued it, as a W3C traceparent: its calls are a part of that trace."""

    @property
    def api(self) -> Api:
        """The API version and the betas of its calls."""
        if self.anthropic_version is None and not self.anthropic_beta:
            return NO_API
        return Api(anthropic_version=self.anthropic_version, anthropic_beta=self.anthropic_beta)


REHEARSED: Final = "rehearsed-"
"""Prefix of the request hash of a rehearsal, a run against the simulator."""
REHEARSAL: Final = "@rehearsal"
"""Suffix of the name of a rehearsal's batch."""


def is_rehearsal(batch: str | None) -> bool:
    """Tell whether a batch is that of a rehearsal."""
    return batch is not None and batch.endswith(REHEARSAL)


def rehearsal_of(batch: str | None) -> str:
    """Return the name of the rehearsal of a batch; of single jobs, the suffix alone."""
    return batch if batch is not None and is_rehearsal(batch) else (batch or "") + REHEARSAL


def request_hash(params: bytes | msgspec.Raw, api: Api = NO_API, *, rehearsal: bool = False) -> str:
    """Return 16 hex digits, the hash of the whole request: its body, API version and betas.

    The hash of a rehearsal starts with REHEARSED, so a simulator's answer never counts as a real
    one.
    """
    digest = hashlib.blake2b(api.beside(bytes(params)), digest_size=8).hexdigest()
    return REHEARSED + digest if rehearsal else digest


def now_ms() -> int:
    """Return this machine's clock, epoch ms. For records only: leases and due times use Redis's."""
    return time.time_ns() // 1_000_000
