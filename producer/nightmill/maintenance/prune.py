"""Retention: delete the rows of batches that are over, and keep Redis's counts with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nightmill.enqueue.feeder_lock import FeederLock
from nightmill.enqueue.known import total_of
from nightmill.enqueue.reconcile import reconcile
from nightmill.errors import BatchBusyError

if TYPE_CHECKING:
    from nightmill.queue.batches import Batches
    from nightmill.store import ResultStore


async def prune(
    batch: str, store: ResultStore, batches: Batches, *, before_ms: int | None = None
) -> int:
    """Delete the rows of `batch` ("": the single jobs) and return how many were deleted.

    With `before_ms` (epoch ms), only rows that ended before it. The batch cannot be fed meanwhile.
    Raises BatchBusyError when jobs of it are queued or in flight or when it is being fed, and what
    Redis and the store raise.
    """
    async with FeederLock(batches.redis, batch):
        counts = await batches.counts(batch)
        if not counts.drained:
            left = counts.waiting + counts.in_flight
            name = f'batch "{batch}"' if batch else "the single jobs"
            raise BatchBusyError(
                f"{name}: {left:,} jobs are queued or in flight; prune it when it ended"
            )
        deleted = await store.prune(batch, before_ms=before_ms)
        await reconcile(batches, batch, store)
        if not sum((await store.counts(batch)).values()):
            await batches.forget(batch)
            await store.forget(batch)
            return deleted
        known = await store.known(batch)
        total = total_of(counts, known)
        if total is not None and deleted:
            left = max(0, total - deleted)
            if known is not None:
                await store.note(batch, msgspec.structs.replace(known, total=left, source=None))
            await batches.set_total(batch, left)
    return deleted
