"""The limits of a batch as text."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from nightmill.reports.progress import dollars, duration

if TYPE_CHECKING:
    from nightmill.records.limits import Limits


def describe(limits: Limits) -> str:
    """Return `limits` as one line of text."""
    now = time.time()
    parts = [f"weight {limits.weight}"]
    if limits.concurrency is not None:
        parts.append(f"{limits.concurrency:,} in flight at most")
    if limits.expires_at is not None:
        parts.append(f"expires in {duration(max(0, limits.expires_at / 1000 - now))}")
    if limits.budget_usd is not None:
        parts.append(f"{dollars(limits.budget_usd)} at most")
    if limits.budget_tokens is not None:
        parts.append(f"{limits.budget_tokens:,} tokens at most")
    return ", ".join(parts)
