"""Verifies a batch: every accepted id has a row or a job, and all counts agree."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.enqueue.changes import Changes, differs, explain
from nightmill.enqueue.chunks import chunks_of
from nightmill.enqueue.known import total_of
from nightmill.enqueue.prepare import defaults_of
from nightmill.enqueue.unfinished import unfinished
from nightmill.queue import keys
from nightmill.queue.connection import redis_errors
from nightmill.records.job import is_rehearsal
from nightmill.records.state import TERMINAL
from nightmill.settings import load_settings
from nightmill.sources import Line

if TYPE_CHECKING:
    from nightmill.queue.batches import Batches
    from nightmill.records.counts import Counts
    from nightmill.settings import Settings
    from nightmill.store import ResultStore

CHUNK: Final = 500
"""Ids that are looked up at once."""
SHOWN: Final = 20
"""Missing ids that a Verdict names."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What `verify` found; `problems` is empty when all is well.

    `missing` ids of the source have neither a row nor a job and must be fed again; `examples` are
    the first SHOWN of them. `others` are rows whose ids the source does not have. `changed` ids
    have another request than in the source: stored, queued or in flight. `orphaned` jobs are queued
    without their payload. `lost_calls` ended with their worker; `lost_dollars` estimates their
    cost, each as the cost of its job's row.
    """

    rows: int
    waiting: int
    missing: int
    others: int
    changed: int
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
    batch: str,
    store: ResultStore,
    batches: Batches,
    source: Iterable[Line | str] | None = None,
    settings: Settings | None = None,
) -> Verdict:
    """Check `batch` in the store and Redis; `source` are its lines, or only their custom_ids.

    None: there are no lines to compare. The requests of lines are compared as well; `settings` have
    what requests without a model get. The batch may still run: jobs that are queued or in flight
    are not missing. Raises what the store raises, and QueueUnavailableError.
    """
    compared = await _compared(batch, store, batches, source or (), settings or load_settings())
    counts = await batches.counts(batch)
    stored = await store.counts(batch)
    orphaned = await _orphaned(batch, batches)
    calls, dollars = await store.lost(batch)
    problems = [*_disagreements(counts, {str(s): n for s, n in stored.items()})]
    if compared.missing:
        problems.append(f"{compared.missing:,} ids have neither a row nor a job")
    if len(compared.changes):
        changed = await explain(compared.changes, batch, store)
        problems.append(f"{changed}; feed the source with --changed rerun to replace them")
    if orphaned:
        problems.append(f"{orphaned:,} queued jobs lost their payloads")
    rows = sum(stored.values())
    if not compared.missing and not counts.feeding:
        problems += await _gaps(batch, store, counts, rows, known_ids=source is not None)
    return Verdict(
        rows=rows,
        waiting=counts.waiting + counts.in_flight,
        missing=compared.missing,
        others=0 if source is None else max(0, rows - compared.stored),
        changed=len(compared.changes),
        orphaned=orphaned,
        examples=tuple(compared.examples),
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


class _Compared:
    """What the lines of a source show: ids without row and job, and requests that changed."""

    def __init__(self) -> None:
        self.missing = self.stored = 0
        self.examples: list[str] = []
        self.changes = Changes()

    def add_missing(self, custom_id: str) -> None:
        self.missing += 1
        if len(self.examples) < SHOWN:
            self.examples.append(custom_id)


async def _compared(
    batch: str,
    store: ResultStore,
    batches: Batches,
    source: Iterable[Line | str],
    settings: Settings,
) -> _Compared:
    """Look for each line in Redis, then in the store: a job that ends meanwhile is found there."""
    compared, defaults = _Compared(), defaults_of(settings)
    rehearsal = is_rehearsal(batch)
    for chunk in chunks_of(source, CHUNK):
        names = [
            keys.job_id(batch, each if isinstance(each, str) else each.custom_id) for each in chunk
        ]
        queued = await unfinished(batches.redis, names, defaults)
        found = await store.lookup(names)
        for name, each in zip(names, chunk, strict=True):
            job, row = queued.get(name), found.get(name)
            compared.stored += row is not None
            if job is None and row is None:
                compared.add_missing(name.partition(":")[2])
            elif isinstance(each, Line) and differs(each, row, job, rehearsal=rehearsal):
                compared.changes.add(each, row, job)
    return compared


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
