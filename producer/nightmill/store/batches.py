"""The SQL of what the store keeps of whole batches, and of its own identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeVar

import msgspec
from sqlalchemy import delete, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from nightmill.records.bounds import MAX_INT
from nightmill.records.job import now_ms
from nightmill.store.bounds import batch_key, clamped
from nightmill.store.schema import batches, meta, results

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

Insert = TypeVar("Insert", sqlite.Insert, postgresql.Insert)
FedState = Literal["feeding", "fed", "cancelled", "expired"]

IDS: Final = 20_000
"""Ids that are read at once."""


class StoredBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What the store knows of a batch, even when Redis has lost it.

    `state` is `feeding` until a source was read to its end, then `fed`; or `cancelled` or
    `expired`. `total` is the number of its jobs, None until a source was read to its end.
    `source` is the IdSet of the source that was fed last, as text. `limits` are its Limits as JSON.
    """

    state: FedState
    total: int | None = None
    source: str | None = None
    limits: str | None = None


class Mark(NamedTuple):
    """Where a page of ids ended, in their order."""

    seq: int
    job_id: str


def get(connection: Connection, batch: str | None) -> dict[str, StoredBatch]:
    """Return name -> what is known, of `batch` or (None) of all batches."""
    query = select(batches).order_by(batches.c.batch)
    if batch is not None:
        query = query.where(batches.c.batch == batch_key(batch))
    return {
        row.batch: StoredBatch(
            state=row.state, total=row.total, source=row.source, limits=row.limits
        )
        for row in connection.execute(query)
    }


def note(connection: Connection, batch: str, known: StoredBatch) -> None:
    """Replace what is known of `batch`."""
    values = {
        "batch": batch_key(batch),
        "state": known.state,
        "total": None if known.total is None else clamped(known.total, MAX_INT),
        "source": known.source,
        "limits": known.limits,
        "updated_at": now_ms(),
    }
    if connection.dialect.name == "postgresql":
        connection.execute(_replacing(postgresql.insert(batches)), values)
    else:
        connection.execute(_replacing(sqlite.insert(batches)), values)


def _replacing(insert: Insert) -> Insert:
    changed = {c.name: insert.excluded[c.name] for c in batches.c if not c.primary_key}
    return insert.on_conflict_do_update(index_elements=[batches.c.batch], set_=changed)


def forget(connection: Connection, batch: str) -> None:
    """Delete what is known of `batch`."""
    connection.execute(delete(batches).where(batches.c.batch == batch_key(batch)))


def ids(
    connection: Connection, batch: str, after: Mark | None
) -> tuple[Sequence[str], Mark | None]:
    """Return the next IDS job ids of the rows of `batch`, and where they end (None: the last)."""
    columns = (results.c.seq, results.c.job_id)
    query = (
        select(*columns).where(results.c.batch == batch_key(batch)).order_by(*columns).limit(IDS)
    )
    if after is not None:
        query = query.where(tuple_(*columns) > tuple(after))
    found = connection.execute(query).all()
    more = len(found) == IDS
    return [job_id for _, job_id in found], Mark(*found[-1]) if more else None


def identity(connection: Connection) -> str:
    """Return the identity of this store; "" when a person deleted it."""
    return connection.scalar(select(meta.c.value).where(meta.c.name == "identity")) or ""
