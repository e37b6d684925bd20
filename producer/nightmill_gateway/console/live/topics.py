"""Topics: what a page shows, so that it gets changes of that and of nothing else."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.errors import StoreError
from nightmill.queue import keys
from nightmill.queue.connection import redis_errors
from nightmill_gateway.access.caller import ALL
from nightmill_gateway.answers.errors import not_found
from nightmill_gateway.console.access import may_see, require_all, tenant_of
from nightmill_gateway.console.live.snapshot import fields_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from nightmill.store.statements import Stored
    from nightmill_gateway.access.caller import Caller
    from nightmill_gateway.console.live.snapshot import Snapshot
    from nightmill_gateway.services import Services

CHARTS_S: Final = 10
"""Between two events that a chart has new points, seconds."""
_SHARED: Final = frozenset({"lanes", "workers"})


class Topic(msgspec.Struct, frozen=True, kw_only=True):
    """What one tab watches: `overview`, `batches`, `lanes`, `workers`, a batch or a job."""

    kind: str
    name: str = ""
    """Of the batch or the job."""
    tenant: str = ALL
    """Whose batches it shows."""


def topic_of(text: str, caller: Caller) -> Topic:
    """Return the topic that a page names. Raises ApiError for what the caller may not see."""
    kind, _, name = text.partition(":")
    if kind in _SHARED:
        require_all(caller)
    elif kind in {"batch", "job"}:
        if not may_see(caller, name.partition(":")[0]):
            raise not_found(f"{kind} {name!a:.80}")
    elif kind not in {"overview", "batches"}:
        raise not_found(f"topic {kind!a:.80}")
    return Topic(kind=kind, name=name, tenant=caller.tenant)


def sees(tenant: str, batch: str) -> bool:
    """Tell whether a batch is in what a tenant is shown; single jobs are those of all tenants."""
    return tenant == ALL or (bool(batch) and tenant == tenant_of(batch))


async def read_jobs(services: Services, ids: Collection[str]) -> dict[str, object]:
    """Return what changes about jobs that are watched: their records, numbers of calls and rows."""
    if not ids:
        return {}
    rows: dict[str, Stored] | None = None
    with suppress(StoreError):  # the pages of jobs say that the store is away
        rows = await services.store.lookup(list(ids))
    with redis_errors():
        async with services.redis.pipeline(transaction=False) as pipe:
            for job_id in ids:
                pipe.exists(keys.PAYLOAD + job_id)
                pipe.hmget(keys.RECORD + job_id, ["state", "token", "answered"])
                pipe.llen(keys.ATTEMPTS + job_id)
            found = await pipe.execute()
    return {
        job_id: (found[3 * i : 3 * i + 3], rows is None or rows.get(job_id))
        for i, job_id in enumerate(ids)
    }


def digest(topic: Topic, snapshot: Snapshot, jobs: dict[str, object]) -> int:
    """Return a number that changes when what a topic shows has changed."""
    view = snapshot.view
    ticks = int(time.monotonic() / CHARTS_S)
    match topic.kind:
        case "job":
            return hash(repr(jobs.get(topic.name)))
        case "batch" if topic.name in view.counts:
            return hash(repr(fields_of(view, topic.name)))
        case "lanes":
            lanes = [(look.now.hot, look.now.orders, look.now.in_flight) for look in snapshot.looks]
            return hash(repr((lanes, view.stops.accounts, view.stops.lanes, ticks)))
        case "workers":
            return hash(repr(snapshot.workers))
    shown = [
        (name, counts, view.rates.get(name), view.state(name))
        for name, counts in view.counts.items()
        if sees(topic.tenant, name)
    ]
    calls = [look.now.hot.sent for look in snapshot.looks] if topic.tenant == ALL else []
    return hash(repr((shown, calls, view.stops.workers if calls else (), ticks)))
