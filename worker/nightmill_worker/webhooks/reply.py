"""The result of a POST, apart from what makes it: a worker without webhooks imports no client."""

from __future__ import annotations

import msgspec


class PostReply(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a POST."""

    problem: str = ""
    """Why it failed, "" when the receiver accepted it."""
    final: bool = False
    """Whether a further try would fail the same way."""
    retry_after_s: float = 0.0
    """The wait that the receiver asks for, seconds."""
