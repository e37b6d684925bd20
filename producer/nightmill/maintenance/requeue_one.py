"""Requeueing one ended job with a request that a person has edited."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from nightmill.enqueue.feeder_lock import FeederLock
from nightmill.enqueue.known import note, remind
from nightmill.enqueue.reconcile import reconcile
from nightmill.errors import JobNotFoundError
from nightmill.maintenance.requeue import next_run
from nightmill.params import decode
from nightmill.queue import keys
from nightmill.records.job import now_ms
from nightmill.records.state import JobState

if TYPE_CHECKING:
    from nightmill.client.producer import Producer
    from nightmill.queue.batches import Batches
    from nightmill.records.result import Result
    from nightmill.store import ResultStore


async def requeue_one(
    row: Result, params: bytes, store: ResultStore, producer: Producer, batches: Batches
) -> str:
    """Enqueue the job of `row` as its next run, with `params`; return what was done.

    A second call enqueues nothing. Raises InvalidParamsError that names the field, JobNotFoundError
    when the row was replaced or deleted meanwhile, BatchBusyError while its batch is being fed, and
    BatchEndedError when the batch takes no more jobs.
    """
    decode(params)
    ready = next_run(row, msgspec.Raw(params), {}, producer.defaults, now_ms())
    batch = row.batch or keys.SINGLES
    async with FeederLock(batches.redis, batch) as lock:
        await remind(batches, batch, store)
        if row.status is JobState.CANCELLED and (await batches.counts(batch)).ended:
            await batches.reopen(batch)
            await note(store, batch, "fed")
        await reconcile(batches, batch, store)
        found = (await store.lookup([row.job_id])).get(row.job_id)
        if found is None or found.run != row.run:
            raise JobNotFoundError(f"{row.job_id}: its row was replaced or deleted meanwhile")
        await lock.require()
        (receipt,) = await producer.send([ready])
    return f"Enqueued as run {row.run + 1}." if receipt.new else "It was enqueued already."
