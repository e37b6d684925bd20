"""Feeding: from the lines of a source to jobs in Redis, a window at a time, resumable.

A job's id comes from its line, so feeding a source again after any crash goes on where it ended:
what is stored is skipped, what is queued stays, and only the rest is new.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Final, Literal, Self, TypeVar

import msgspec

from nightmill import keys
from nightmill.errors import (
    BatchChangedError,
    QueueFullError,
    QueueUnavailableError,
    StoreUnavailableError,
)
from nightmill.intake import CHUNK, Ready, Receipt, Taken, ready_line
from nightmill.job import request_hash
from nightmill.lock import FeederLock
from nightmill.sources import Line, Rejected

if TYPE_CHECKING:
    from types import TracebackType

    from redis.asyncio import Redis

    from nightmill.batch import Batches
    from nightmill.client import Producer
    from nightmill.store import ResultStore, Stored

T = TypeVar("T")

Changed = Literal["rerun", "keep"]

PATIENCE_S: Final = 300.0
"""How long feeding waits for a Redis or a store that is away or full, seconds."""
_AWAY_S: Final = 1.0
_WINDOW_S: Final = 0.05


class Fed(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the lines of one pass; `changed` tells how many of them had changed."""

    new: int = 0
    queued_already: int = 0
    stored_already: int = 0
    changed: int = 0

    @property
    def total(self) -> int:
        """The lines of the pass."""
        return self.new + self.queued_already + self.stored_already


class Feeder:
    """Feeds one batch, as its only feeder, within an `async with` block.

    To see a batch through: `check` and `feed` its lines, wait until it is drained, and while jobs
    were `lost` feed the same lines again.
    """

    def __init__(  # noqa: PLR0913 - the four parts it connects, by position, and two choices
        self,
        batch: str,
        producer: Producer,
        batches: Batches,
        store: ResultStore | None,
        *,
        lock: FeederLock,
        changed: Changed | None = None,
    ) -> None:
        """Feed through `producer`; without a `store` only Redis tells what is finished.

        `changed` says what to do with a request that is not the one stored under its id: store
        the new one's answer instead (`rerun`) or leave the row (`keep`); None refuses it. At most
        `producer.settings.window` jobs of the batch are in Redis at once, 0 means any number.
        """
        self.batch = batch
        self.fed = Fed()
        self._producer, self._batches, self._store = producer, batches, store
        self._lock, self._changed = lock, changed
        self._window = producer.settings.window
        self._room = 0
