"""What the store knows of a batch as a whole, and how a Redis that lost the batch gets it back.

Redis may lose everything: a replica is promoted that lagged, a server restarts without its file.
The store then still knows that the batch was fed, how many jobs it has, and that it was cancelled.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from nightmill.errors import InvalidLimitError
from nightmill.queue import keys
from nightmill.queue.connection import redis_errors
from nightmill.records.limits import NANO, Limits
from nightmill.records.state import BATCH_ENDED

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nightmill.queue.batches import Batches
    from nightmill.records.counts import Counts
    from nightmill.store import ResultStore, Spent
    from nightmill.store.batches import FedState, StoredBatch

MOST: Final = 1 << 53
"""Largest count that is written to Redis: Lua computes exactly up to here, and may still add."""
SIGN_OF_LIFE_S: Final = 6.0
"""Within this time every worker that lives has written its sign of life, seconds."""
_LOOK_S: Final = 0.1


class FedFacts(NamedTuple):
    """The identities of a source that was fed, and what it may cost; see StoredBatch."""

    source: str
    content: str | None
    requests: str | None
    estimate: str


async def note(  # noqa: PLR0913 - where, which batch, its five facts, and what was read before
    store: ResultStore | None,
    batch: str,
    state: FedState,
    *,
    total: int | None = None,
    fed: FedFacts | None = None,
    limits: Limits | None = None,
    accept: str | None = None,
    known: StoredBatch | None = None,
) -> None:
    """Keep the state of `batch` in the store; what is None stays as it was.

    `known` is what the store has, if the caller has just read it.
    """
    if store is None:
        return
    from nightmill.store import StoredBatch  # noqa: PLC0415 - optional extra

    before = known or await store.known(batch) or StoredBatch(state=state)
    now = msgspec.structs.replace(
        before,
        state=state,
        total=before.total if total is None else total,
        **({} if fed is None else fed._asdict()),
        limits=before.limits
        if limits in (None, Limits())
        else msgspec.json.encode(limits).decode(),
        accept=accept or before.accept,
    )
    if now != before or state == "feeding":
        await store.note(batch, now)


def is_lost(counts: Counts, known: StoredBatch | None) -> bool:
    """Tell whether Redis has lost the batch: it was fed, and only the store knows that."""
    return known is not None and not counts.fed and counts.limits == Limits()


def total_of(counts: Counts, known: StoredBatch | None) -> int | None:
    """Return the number of jobs of a batch, as Redis or the store knows it, whichever is larger.

    None: no source of it was read to its end.
    """
    stored = None if known is None or known.state == "feeding" else known.total
    totals = [total for total in (counts.total, stored) if total is not None]
    return max(totals, default=None)


def limits_of(known: StoredBatch) -> Limits:
    """Return the limits that the store has of a batch; none when they cannot be read."""
    try:
        return msgspec.json.decode(known.limits or "{}", type=Limits)
    except (msgspec.MsgspecError, InvalidLimitError):
        return Limits()


async def remind(batches: Batches, batch: str, store: ResultStore | None) -> bool:
    """Give `batch` its total and its end back if Redis has lost it; return whether it had."""
    known = None if store is None else await store.known(batch)
    counts = await batches.counts(batch)
    if known is None or not is_lost(counts, known):
        return False
    if store is not None:
        await batches.raise_spent(batch, spent_fields(await store.spent(batch)))
    total = total_of(counts, known)
    await batches.remind(batch, total=total, limits=limits_of(known), accept=known.accept or "")
    if known.state in BATCH_ENDED:
        await batches.end(batch, known.state)
    return True


def spent_fields(spent: Spent) -> dict[str, int]:
    """Return what was spent as the fields of a batch's hash."""
    usage = spent.usage
    fields = {
        "input_tokens": usage.input_tokens + usage.cache_creation_input_tokens,
        "output_tokens": usage.output_tokens,
        "nanodollars": round(spent.cost * NANO),
        "unpriced": spent.unpriced,
        "answers": spent.answers,
    }
    return {name: max(0, min(number, MOST)) for name, number in fields.items()}


async def let_workers_report(redis: Redis, lease_s: float) -> None:
    """Wait until workers that live have put back what they hold into a Redis that lost it.

    A worker puts its jobs back when it renews their leases. Without this wait, the calls that are
    in flight would be made again.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + SIGN_OF_LIFE_S
    while loop.time() < until:
        with redis_errors():
            if await redis.execute_command("HLEN", keys.WORKERS):
                await asyncio.sleep(lease_s)
                return
        await asyncio.sleep(_LOOK_S)
