"""Opens a batch for feeding, and sets its counts in Redis from the rows of the results store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightmill.enqueue.known import MOST, note, remind, spent_fields
from nightmill.errors import BatchEndedError
from nightmill.records.state import TERMINAL
from nightmill.records.stop_reasons import FIELD, tallied

if TYPE_CHECKING:
    from nightmill.queue.batches import Batches
    from nightmill.store import ResultStore


async def open_batch(batches: Batches, batch: str, store: ResultStore | None) -> bool:
    """Make `batch` known before it is fed; return whether Redis had lost it.

    If Redis has no counts of it, they are set from the rows in `store`. Raises BatchEndedError
    when the batch was cancelled or its deadline has passed, also when only the store knows that.
    """
    lost = await remind(batches, batch, store)
    counts = await batches.counts(batch)
    if counts.ended:
        raise BatchEndedError(batch, counts.flag)
    await reconcile(batches, batch, store)
    await note(store, batch, "feeding", limits=counts.limits, accept=counts.accept)
    await batches.make_known(batch)
    return lost


async def reconcile(batches: Batches, batch: str, store: ResultStore | None) -> bool:
    """Set the counts of ended jobs from the rows in `store`; return whether that was done.

    It is done only while no job of the batch is queued or in flight: such a job could be counted
    twice. A sum over MOST is set to MOST. What was spent is raised, never lowered.
    """
    before = await batches.counts(batch)
    if store is None or ((before.terminal or before.fed) and not before.drained):
        return False
    ends, spent = await store.stops(batch), await store.spent(batch)
    fields: dict[str, int] = {
        state: sum(number for status, _, number, _ in ends if status == state)
        for state in sorted(TERMINAL)
    }
    stops = {
        **dict.fromkeys(before.stop_reasons, 0),
        **tallied(each[:3] for each in ends),
    }
    fields |= {FIELD + name: number for name, number in stops.items()}
    bounded = {name: max(0, min(count, MOST)) for name, count in fields.items()}
    bounded |= spent_fields(spent)
    return await batches.set_ended(batch, before.terminal, bounded)
