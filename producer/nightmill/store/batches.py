"""The SQL of what the store keeps of whole batches, and of its own identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

import msgspec

from nightmill.records.bounds import MAX_INT
from nightmill.records.job import now_ms
from nightmill.store import spending, turns
from nightmill.store.bounds import batch_key, clamped
from nightmill.store.in_order import in_order
from nightmill.store.schema import BATCHES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightmill.store.connection import Connection

FedState = Literal["feeding", "fed", "cancelled", "expired"]

IDS: Final = 20_000
"""Ids that are read at once."""
_ALL: Final = ", ".join(BATCHES)
_NOTE: Final = (
    f"INSERT INTO batches ({_ALL}) VALUES ({', '.join(f':{name}' for name in BATCHES)}) "
    "ON CONFLICT (batch) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in BATCHES if name != "batch")
)


class StoredBatch(msgspec.Struct, frozen=True, kw_only=True):
    """What the store knows of a batch, even when Redis has lost it.

    `state` is `feeding` until a source was read to its end, then `fed`; or `cancelled` or
    `expired`. `total` is the number of its jobs, None until a source was read to its end.
    `source` is the IdSet of the source that was fed last, as text. `limits` are its Limits as JSON.
    `content` is the content_of of a source that was fed whole, and `requests` the IdSet of its job
    ids with the hashes of their requests, as text; None when another source was fed since.
    `accept` is its Acceptance as JSON, None for the default one. `estimate` is the Estimate of the
    source that was fed last as JSON, None when none was fed to its end.
    """

    state: FedState
    total: int | None = None
    source: str | None = None
    limits: str | None = None
    content: str | None = None
    requests: str | None = None
    accept: str | None = None
    estimate: str | None = None


class Mark(NamedTuple):
    """Where a page of ids ended, in their order."""

    seq: int
    job_id: str


class ReadPage(Protocol):
    """Reads one page of a batch: `ids` or `requests`."""

    def __call__(
        self, connection: Connection, batch: str, after: Mark | None
    ) -> tuple[Sequence[str], Mark | None]:
        """Return the page, and where it ends; None: it is the last."""


def get(connection: Connection, batch: str | None) -> dict[str, StoredBatch]:
    """Return name -> what is known, of `batch` or (None) of all batches."""
    where = "" if batch is None else "WHERE batch = :batch"
    return {
        row["batch"]: StoredBatch(**{name: row[name] for name in StoredBatch.__struct_fields__})
        for row in connection.named(
            f"SELECT {_ALL} FROM batches {where} ORDER BY batch",
            {} if batch is None else {"batch": batch_key(batch)},
        )
    }


def note(connection: Connection, batch: str, known: StoredBatch) -> None:
    """Replace what is known of `batch`."""
    values = {
        "batch": batch_key(batch),
        **msgspec.structs.asdict(known),
        "total": None if known.total is None else clamped(known.total, MAX_INT),
        "updated_at": now_ms(),
    }
    connection.change(_NOTE, values)


def forget(connection: Connection, batch: str) -> None:
    """Delete what is known of `batch`."""
    connection.change("DELETE FROM batches WHERE batch = :batch", {"batch": batch_key(batch)})
    spending.forget(connection, batch)
    turns.forget(connection, batch)


def ids(
    connection: Connection, batch: str, after: Mark | None
) -> tuple[Sequence[str], Mark | None]:
    """Return the next IDS job ids of the rows of `batch`, and where they end (None: the last)."""
    found, end = _page(connection, batch, after, "seq, job_id")
    return [job_id for _, job_id in found], end


def _page(
    connection: Connection, batch: str, after: Mark | None, columns: str
) -> tuple[Sequence[Sequence[Any]], Mark | None]:
    """Return the next IDS rows with `columns`, whose first two are those of Mark."""
    values: dict[str, object] = {"batch": batch_key(batch)}
    where = "batch = :batch"
    if after is not None:
        where += " AND (seq, job_id) > (:seq, :job_id)"
        values |= after._asdict()
    in_order(connection)
    found = connection.rows(
        f"SELECT {columns} FROM results WHERE {where} ORDER BY seq, job_id LIMIT {IDS}", values
    )
    return found, Mark(*found[-1][:2]) if len(found) == IDS else None


def requests(
    connection: Connection, batch: str, after: Mark | None
) -> tuple[Sequence[str], Mark | None]:
    """Return what `ids` returns, each id followed by a space and the hash of its request."""
    found, end = _page(connection, batch, after, "seq, job_id, request_hash")
    return [f"{job_id} {request}" for _, job_id, request in found], end


def identity(connection: Connection) -> str:
    """Return the identity of this store; "" when a person deleted it."""
    found = connection.rows("SELECT value FROM meta WHERE name = 'identity'")
    return str(found[0][0]) if found else ""
