"""A key of the HTTP gateway, as it is stored: without what is secret in it."""

from __future__ import annotations

from typing import Literal

import msgspec

from nightmill.records.key_limits import NO_LIMITS, KeyLimits

Role = Literal["viewer", "service", "operator"]
"""viewer: reads. service: also creates, cancels, deletes. operator: also controls batches."""


class AccessKey(msgspec.Struct, frozen=True, kw_only=True):
    """What the store has of one key."""

    key_id: str
    """The part of the key that is no secret."""
    digest: str
    """HMAC of the whole key, hex; see store.access_keys."""
    name: str
    """What the key is for, as text for a person."""
    role: Role
    tenant: str
    """Whose batches and jobs it reaches."""
    created_at: int
    expires_at: int | None = None
    """From when on it is refused, epoch ms; None: never."""
    revoked_at: int | None = None
    limits: KeyLimits = NO_LIMITS

    def valid(self, now_ms: int) -> bool:
        """Tell whether it opens the gateway at `now_ms`, epoch ms."""
        return self.revoked_at is None and (self.expires_at is None or now_ms < self.expires_at)
