"""Verifies a batch: every accepted id has a row or a job, and all counts agree."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.enqueue.known import total_of
from nightmill.queue import keys
from nightmill.queue.connection import redis_errors
from nightmill.records.state import TERMINAL

if TYPE_CHECKING:
    from nightmill.queue.batches import Batches
    from nightmill.records.counts import Counts
    from nightmill.store import ResultStore

CHUNK: Final = 5_000
"""Ids that are looked up at once."""
SHOWN: Final = 20
"""Missing ids that a Verdict names."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What `verify` found; `problems` is empty when all is well.

    `missing` ids of the source have neither a row nor a job and must be fed again; `examples` are
    the first SHOWN of them. `orphaned` jobs are queued without their payload. `lost_calls` ended
    with their worker; `lost_dollars` estimates their cost, each as the cost of its job's row.
    """

    rows: int
    waiting: int
    missing: int
    orphaned: int
    examples: tuple[str, ...]
    lost_calls: int
    lost_dollars: float
    problems: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether there is no problem."""
        return not self.problems


async def verify(
    batch: str, store: ResultStore, batches: Batches, ids: Iterable[str] | None = None
) -> Verdict:
    """Check `batch` in the store and Redis; `ids` are the custom_ids of its source, None: unknown.

    The batch may still run: jobs that are queued or in flight are not missing. Raises what the
    store raises, and QueueUnavailableError.
    """
    missing, examples = 0, []
    async for each in _missing(batch, store, batches, ids or ()):
        missing += 1
        if missing <= SHOWN:
            examples.append(each)
    counts = await batches.counts(batch)
    stored = await store.counts(batch)
    orphaned = await _orphaned(batch, batches)
    calls, dollars = await store.lost(batch)
    problems = [*_disagreements(counts, {str(s): n for s, n in stored.items()})]
    if missing:
        problems.append(f"{missing:,} ids have neither a row nor a job")
    if orphaned:
        problems.append(f"{orphaned:,} queued jobs lost their payloads")
    rows = sum(stored.values())
    if not missing and not counts.feeding:
        problems += await _gaps(batch, store, counts, rows, known_ids=ids is not None)
    return Verdict(
        rows=rows,
        waiting=counts.waiting + counts.in_flight,
        missing=missing,
        orphaned=orphaned,
        examples=tuple(examples),
        lost_calls=calls,
        lost_dollars=dollars,
        problems=tuple(problems),
    )


def _disagreements(counts: Counts, stored: dict[str, int]) -> Iterable[str]:
    """Compare Redis's counts with the rows, unless jobs may still end meanwhile."""
    if not counts.drained or not counts.accepted:
        return
    for state in sorted(TERMINAL):
        counted = getattr(counts, state)
        if counted != stored[state]:
            yield f"{counted:,} {state} by Redis's count, {stored[state]:,} rows"


async def _gaps(
    batch: str, store: ResultStore, counts: Counts, rows: int, *, known_ids: bool
) -> list[str]:
    """Return what is missing by the total, which also stands in the store: Redis may lose it."""
    known = await store.known(batch)
    total = total_of(counts, known)
    if total is None:
        fed = (counts.fed or known is not None) and not counts.ended
        return ["its source was not fed to the end"] if fed and not known_ids else []
    if rows + counts.waiting + counts.in_flight < total:
        queued = "" if counts.drained else f", and {counts.waiting + counts.in_flight:,} in Redis,"
        return [f"{rows:,} rows{queued} of {total:,} jobs"]
    source = (known and known.source) or ""
    comparable = counts.drained and not known_ids and source.startswith(f"{rows}:")
    if comparable and source != str(await store.ids(batch)):
        return [f"{rows:,} rows, but not of the {total:,} jobs that were fed"]
    return []


async def _missing(
    batch: str, store: ResultStore, batches: Batches, ids: Iterable[str]
) -> AsyncIterator[str]:
    each = iter(ids)
    while chunk := list(islice(each, CHUNK)):
        names = {keys.job_id(batch, custom_id): custom_id for custom_id in chunk}
        queued = await _queued(batches, list(names))
        rest = [name for name in names if name not in queued]
        found = await store.lookup(rest)  # after Redis: a job that ends meanwhile is found here
        for name in rest:
            if name not in found:
                yield names[name]


async def _queued(batches: Batches, names: list[str]) -> set[str]:
    """Return those of `names` that have a payload in Redis."""
    with redis_errors():
        async with batches.redis.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.exists(keys.PAYLOAD + name)
            found = await pipe.execute()
    return {name for name, exists in zip(names, found, strict=True) if exists}


async def _orphaned(batch: str, batches: Batches) -> int:
    """Count the queued jobs of the batch that have no payload: no worker can run them."""
    redis, orphaned = batches.redis, 0
    with redis_errors():
        async for queue in redis.sscan_iter(keys.QUEUES_OF + batch):
            async for name, _ in redis.zscan_iter(queue, count=CHUNK):
                payload = await redis.execute_command("EXISTS", keys.PAYLOAD.encode() + name)
                if payload:
                    continue
                if await redis.execute_command("ZSCORE", queue, name) is not None:
                    orphaned += 1
    return orphaned
