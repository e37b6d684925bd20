"""Brings one batch towards its end: feeds it, and gives every request that was not fed its row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import msgspec

from nightmill.enqueue.feeder import Feeder
from nightmill.enqueue.feeder_lock import FeederLock
from nightmill.enqueue.known import note
from nightmill.enqueue.reconcile import reconcile
from nightmill.enqueue.unfinished import unfinished
from nightmill.maintenance.cancellation import Cancellation
from nightmill.params import api_of
from nightmill.queue import keys
from nightmill.records.job import now_ms, request_hash
from nightmill.records.limits import Change
from nightmill.records.message_batch import deadline
from nightmill.records.result import Result
from nightmill.records.state import JobState
from nightmill.records.stored_body import reference_to
from nightmill.sources import Line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nightmill.message_batches.connections import Connections
    from nightmill.records.counts import Counts
    from nightmill.records.message_batch import MessageBatch, StoredRequest
    from nightmill.store.batches import FedState

LEAST_S: Final = 0.001
"""A deadline is in the future when it is set, seconds; the batch expires at once then."""


class BatchFeeding:
    """What is to be done for one batch. Each step may be repeated, by any gateway or worker."""

    def __init__(self, connections: Connections, batch: MessageBatch) -> None:
        """Take the connections, and the batch as the store has it."""
        self._connections = connections
        self.batch = batch
        self.name = batch.batch
        self._api = api_of(batch.anthropic_version, batch.anthropic_beta)

    def needs(self, counts: Counts) -> Literal["step", "feed"] | None:
        """Return what a batch with these `counts` needs; None while its jobs are worked off."""
        batch = self.batch
        ends = batch.cancel_initiated_at is not None or deadline(batch, counts) <= now_ms()
        if batch.deleted_at is not None or counts.ended or ends:
            return "step"
        if counts.total is None:
            return "feed"
        return "step" if counts.drained else None

    async def step(self) -> bool:
        """Do what can be done at once; return whether requests are to be fed.

        Raises BatchBusyError while another process does it, and what Redis and the store raise when
        they are away.
        """
        if self.batch.deleted_at is not None:
            await self._remove()
            return False
        counts = await self._ended_in_time()
        if counts.ended:
            await self._finish(counts)
            return False
        if counts.drained:
            return not await self._end_if_over()
        return counts.total is None

    async def _ended_in_time(self) -> Counts:
        """End the batch in Redis when it was cancelled, or its time is over; return its counts."""
        batches = self._connections.batches
        counts = await batches.counts(self.name)
        if counts.ended:
            if counts.flag == JobState.CANCELLED:
                await self._connections.message_batches.cancel(self.batch, now_ms())
            return counts
        if self.batch.cancel_initiated_at is not None:
            await batches.cancel(self.name)
        elif deadline(self.batch, counts) <= now_ms():
            await batches.expire(self.name)
        else:
            return counts
        return await batches.counts(self.name)

    async def feed(self) -> None:
        """Feed every request that has neither a job nor a row, through the window.

        It takes as long as the batch needs. Raises BatchBusyError while another process does it.
        """
        connections, batches = self._connections, self._connections.batches
        await self._limit()
        await batches.accept(self.name, on_pause="keep")
        await batches.without_canary(self.name)
        feeder = Feeder(self.name, connections.producer, batches, connections.store, "keep")
        async with feeder:
            await feeder.feed(self._lines())

    async def _limit(self) -> None:
        """Give the batch its deadline, unless a person has, and its tenant's share of claims."""
        batches = self._connections.batches
        limits = (await batches.counts(self.name)).limits
        if limits.expires_at is None or limits.tenant is None:
            left_s = max(LEAST_S, (self.batch.expires_at - now_ms()) / 1000)
            change = Change(
                expires_s=left_s if limits.expires_at is None else None,
                tenant=self.batch.tenant,
                payer=self.batch.key_id,
            )
            await batches.limit(self.name, change, settings=self._connections.settings)

    async def _lines(self) -> AsyncIterator[Line]:
        async for page in self._connections.message_batches.requests(self.name):
            for each in page:
                yield Line(
                    number=each.seq,
                    custom_id=each.custom_id,
                    body=self._queued(each),
                    model=each.model,
                    api=self._api,
                )

    def _queued(self, request: StoredRequest) -> bytes:
        """Return what the queue has of a request: it, or where it is when it is too large."""
        if len(request.body) <= self._connections.settings.max_payload_bytes:
            return request.body
        return reference_to(self.name, request.seq, request.body)

    async def _finish(self, counts: Counts) -> None:
        """Give the requests of an ended batch that are not called their rows."""
        connections, store = self._connections, self._connections.store
        await Cancellation(connections.redis, store, connections.settings).run(self.name)
        if (await connections.batches.counts(self.name)).waiting or await self._end_if_over():
            return
        status = JobState(counts.flag)
        async with FeederLock(connections.redis, self.name) as lock:
            async for page in connections.message_batches.requests(self.name):
                await lock.require()
                await self._record(page, status)
            await reconcile(connections.batches, self.name, store)
            state: FedState = "expired" if status is JobState.EXPIRED else "cancelled"
            await note(store, self.name, state, total=self.batch.total)
            await connections.batches.set_total(self.name, self.batch.total)
        await self._end_if_over()

    async def _record(self, page: list[StoredRequest], status: JobState) -> None:
        """Record those of `page` that have neither a job nor a row.

        Redis is asked first: a job that ends meanwhile has its row before it leaves Redis.
        """
        connections = self._connections
        ids = {keys.job_id(self.name, each.custom_id): each for each in page}
        queued = await unfinished(connections.redis, list(ids), connections.producer.defaults)
        stored = await connections.store.lookup(list(ids))
        missing = [job_id for job_id in ids if job_id not in queued and job_id not in stored]
        await connections.store.record_all([self._row(each, ids[each], status) for each in missing])

    def _row(self, job_id: str, request: StoredRequest, status: JobState) -> Result:
        keeps = self._connections.settings.keep_params
        return Result(
            job_id=job_id,
            status=status,
            batch=self.name,
            custom_id=request.custom_id,
            seq=request.seq,
            model=request.model,
            params=msgspec.Raw(self._queued(request)) if keeps else None,
            request_hash=request_hash(request.body, self._api),
            api=self._api,
            enqueued_at=self.batch.created_at,
            finished_at=now_ms(),
            cost=0.0,
        )

    async def _end_if_over(self) -> bool:
        return await end_if_over(self._connections, self.batch)

    async def _remove(self) -> None:
        """Remove what a deleted batch has; what was spent stays."""
        await self._connections.store.prune(self.name)
        await self._connections.message_batches.remove(self.batch)


async def end_if_over(connections: Connections, batch: MessageBatch) -> bool:
    """Note that a batch has ended, if every request has its row; return whether it has."""
    counts = await connections.batches.counts(batch.batch)
    if not counts.drained:
        return False
    rows = await connections.store.counts(batch.batch)
    if sum(rows.values()) < batch.total:
        return False
    if counts.flag == JobState.CANCELLED:  # also by `nightmill cancel`
        await connections.message_batches.cancel(batch, now_ms())
    await connections.message_batches.end(batch, rows, now_ms())
    return True
