"""Waiting for a Redis or a store that is away: growing waits, and a call repeated between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, TypeVar

from nightmill.errors import (
    QueueFullError,
    QueueRefusedError,
    QueueUnavailableError,
    StoreUnavailableError,
)

T = TypeVar("T")

PATIENCE_S: Final = 300.0
"""How long `patiently` waits for a Redis or a store that is away or full, seconds."""
REFUSED_S: Final = 5.0
"""How long it waits for a Redis that refuses, which only a person can change; seconds."""
_AGAIN_S: Final = 1.0


def waits(first_s: float, longest_s: float) -> Iterator[float]:
    """Yield seconds to wait between tries, without end: `first_s`, doubled to `longest_s`."""
    wait_s = first_s
    while True:
        yield wait_s
        wait_s = min(wait_s * 2, longest_s)


async def patiently(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat `call` while Redis or the store is away or full, for PATIENCE_S at most."""
    began = time.monotonic()
    until = began + PATIENCE_S
    while True:
        try:
            return await call()
        except QueueRefusedError:
            if time.monotonic() > began + REFUSED_S:
                raise
        except (QueueUnavailableError, QueueFullError, StoreUnavailableError):
            if time.monotonic() > until:
                raise
        await asyncio.sleep(_AGAIN_S)
