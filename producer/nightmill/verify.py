"""Proves a batch's promise: every accepted id has exactly one row, and all counts agree."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill import keys
from nightmill.connect import redis_errors
from nightmill.state import TERMINAL

if TYPE_CHECKING:
    from nightmill.batch import Batches, Counts
    from nightmill.store import ResultStore

CHUNK: Final = 5_000
SHOWN: Final = 20


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What was found; `problems` is empty when the promise holds.

    `missing` are ids of the source with neither a row nor a job, to be fed again (the first SHOWN
    in `examples`). `stuck` jobs have both. Lost calls are those that ended with their worker;
    their dollars are what the same job cost when it succeeded, so a lower bound.
    """

    rows: int
    waiting: int
    missing: int
    stuck: int
    examples: tuple[str, ...]
    lost_calls: int
    lost_dollars: float
    problems: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


async def verify(
    batch: str, store: ResultStore, batches: Batches, ids: Iterable[str] | None = None
) -> Verdict:
    """Check `batch` in the store and Redis; `ids` are the custom_ids of its source, if at hand.

    A batch that still runs may be verified: jobs on their way are not missing. Raises what the
    store raises, and QueueUnavailableError.
    """
    missing = [each async for each in _missing(batch, store, batches, ids or ())]
    counts = await batches.counts(batch)
    stored = await store.counts(batch)
    stuck = await _stuck(batch, store, batches)
    calls, dollars = await store.lost(batch)
    problems = [*_disagreements(counts, {str(s): n for s, n in stored.items()})]
    if missing:
        problems.append(f"{len(missing):,} ids have neither a row nor a job")
    if stuck:
        problems.append(f"{stuck:,} jobs wait although their rows are stored")
    rows = sum(stored.values())
    if counts.total is not None and counts.drained and rows < counts.total and not missing:
        problems.append(f"{rows:,} rows of {counts.total:,} jobs")
    return Verdict(
        rows=rows,
        waiting=counts.waiting + counts.in_flight,
        missing=len(missing),
        stuck=stuck,
        examples=tuple(missing[:SHOWN]),
        lost_calls=calls,
        lost_dollars=dollars,
        problems=tuple(problems),
    )


def _disagreements(counts: Counts, stored: dict[str, int]) -> Iterable[str]:
    """Compare Redis's counts with the rows; jobs that end meanwhile are told from mistakes."""
    if not counts.drained or not counts.accepted:
        return
    for state in sorted(TERMINAL):
        counted = getattr(counts, state)
        if counted != stored[state]:
            yield f"{counted:,} {state} by Redis's count, {stored[state]:,} rows"


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
            there = await pipe.execute()
    return {name for name, is_there in zip(names, there, strict=True) if is_there}


async def _stuck(batch: str, store: ResultStore, batches: Batches) -> int:
    """Count jobs that nobody runs although this run of theirs has its row."""
    stuck = 0
    for queue in await batches.queues(batch):
        with redis_errors():
            async for raw, _ in batches.redis.zscan_iter(queue, count=CHUNK):
                del raw
    return stuck
