"""Batches that came through the HTTP gateway, and their requests until the batch is deleted.

The requests of a new batch are stored piece by piece. The batch is there once its own row is, so
one commit accepts all of them. Requests without that row are remains of a create that broke off.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from nightmill.records.message_batch import MessageBatch, StoredRequest
from nightmill.records.state import JobState
from nightmill.store.connection import ANSWER_S
from nightmill.store.in_order import in_order
from nightmill.store.remains import remains
from nightmill.store.rows import attempts_of, error_of, state_of
from nightmill.store.schema import MESSAGE_BATCHES, REQUESTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from nightmill.records.result import ErrorInfo
    from nightmill.store.connection import Connection, Database
    from nightmill.store.store import ResultStore

PAGE: Final = 500
"""Requests or results that are read at once, at most."""
PAGE_BYTES: Final = 8 << 20
"""Bytes of the requests that are read at once, unless one of them has more."""
DELETED_AT_ONCE: Final = 5_000
"""Requests that one transaction deletes; writers wait for it."""
_ALL: Final = ", ".join(MESSAGE_BATCHES)
_ADD: Final = (
    f"INSERT INTO message_batches ({_ALL}) VALUES ({', '.join(f':{n}' for n in MESSAGE_BATCHES)})"
)
_COLUMNS: Final = ", ".join(REQUESTS)
_STAGE: Final = {
    "sqlite": f"INSERT INTO requests ({_COLUMNS}) VALUES ({', '.join('?' * len(REQUESTS))})",
    "postgresql": f"INSERT INTO requests ({_COLUMNS}) SELECT * FROM unnest("
    + ", ".join(f"CAST(:{name} AS {kind.split()[0]}[])" for name, kind in REQUESTS.items())
    + ")",
}
_BODIES: Final = "SELECT seq, custom_id, model, body FROM requests WHERE batch = :batch"
_SIZES: Final = {
    dialect: f"SELECT seq, {size} FROM requests "
    f"WHERE batch = :batch AND seq > :after ORDER BY seq LIMIT {PAGE}"
    for dialect, size in (
        ("sqlite", "length(CAST(body AS BLOB))"),
        ("postgresql", "octet_length(body)"),
    )
}
_OF: Final = "WHERE tenant = :tenant AND batch = :batch"
_ENDS: Final = {
    JobState.SUCCEEDED: "succeeded",
    JobState.FAILED: "errored",
    JobState.CANCELLED: "canceled",
    JobState.EXPIRED: "expired",
}
"""State of a row -> the count that has it."""


class End(NamedTuple):
    """How one request ended, for the results of its batch."""

    custom_id: str
    status: JobState
    message: str | None
    """The Message as JSON."""
    error: ErrorInfo | None
    request_id: str | None
    http_status: int | None = None
    """Of the last call, for a request that failed."""


class MessageBatches:
    """The batches of one store. Every method raises what the store's methods raise."""

    def __init__(self, store: ResultStore) -> None:
        """Use a store that the caller closes."""
        self._database: Database = store.database

    async def stage(self, batch: str, requests: Sequence[StoredRequest]) -> None:
        """Store requests of a batch that is not there yet."""
        await self._write(partial(_stage, batch=batch, requests=requests))

    async def add(
        self, new: MessageBatch, *, named_since: str, lost_since: str | None = None
    ) -> MessageBatch:
        """Make a batch, whose requests are staged, visible: it is accepted with this commit.

        Returns another batch instead, and adds nothing, when `new` is a create that was sent again:
        one of the same idempotency key with an id from `named_since` on; or, without a key, one of
        the same digest with an id from `lost_since` on whose answer may be lost. The latter counts
        as answered then, so that each is taken over once.
        """
        work = partial(_add, new=new, named_since=named_since, lost_since=lost_since)
        return await self._database.run(work, write=True, within_s=ANSWER_S * 3)

    async def has_earlier(
        self, new: MessageBatch, named_since: str, lost_since: str | None
    ) -> bool:
        """Tell whether `add` would return another batch now."""
        work = partial(_earlier, new=new, named_since=named_since, lost_since=lost_since)
        return await self._database.run(work, within_s=ANSWER_S) is not None

    async def answered(self, batch: MessageBatch, at_ms: int | None) -> None:
        """Note when the answer to its create was written to its end; None: it may be lost."""
        sql = f"UPDATE message_batches SET answered_at = :at {_OF}"
        values = {"tenant": batch.tenant, "batch": batch.batch, "at": at_ms}
        await self._write(partial(_change, sql=sql, values=values))

    async def get(self, tenant: str, batch: str) -> MessageBatch | None:
        """Return a batch of `tenant`; None when it has no such batch, or has deleted it."""
        values = {"tenant": tenant, "batch": batch}
        work = partial(_read, where=f"{_OF} AND deleted_at IS NULL", values=values)
        return next(iter(await self._database.glance(work)), None)

    async def page(
        self, tenant: str, limit: int, *, after: str | None = None, before: str | None = None
    ) -> tuple[list[MessageBatch], bool]:
        """Return `limit` batches, the newest first, and whether there are more.

        Those that are older than the batch `after`, or the next newer ones than `before`.
        """
        older = before is None
        sign, order, place = ("<", "DESC", after) if older else (">", "ASC", before)
        where = "WHERE tenant = :tenant AND deleted_at IS NULL"
        if place is not None:
            where += f" AND batch {sign} :place"
        work = partial(
            _read,
            where=where,
            order=f"ORDER BY batch {order} LIMIT {limit + 1}",
            values={"tenant": tenant} if place is None else {"tenant": tenant, "place": place},
        )
        found = await self._database.run(work, within_s=ANSWER_S)
        page = found[:limit]
        return page if older else page[::-1], len(found) > limit

    async def unfinished(self) -> list[MessageBatch]:
        """Return the batches of all tenants that have not ended, or are to be removed."""
        where = "WHERE ended_at IS NULL OR deleted_at IS NOT NULL"  # as in its partial index
        return await self._database.run(partial(_read, where=where), within_s=ANSWER_S)

    async def cancel(self, batch: MessageBatch, at_ms: int) -> None:
        """Note when its cancellation began; the first time stays."""
        await self._set(batch, "cancel_initiated_at", at_ms)

    async def delete(self, batch: MessageBatch, at_ms: int) -> None:
        """Hide a batch; `remove` removes it."""
        await self._set(batch, "deleted_at", at_ms)

    async def _set(self, batch: MessageBatch, column: str, at_ms: int) -> None:
        sql = f"UPDATE message_batches SET {column} = :at {_OF} AND {column} IS NULL"
        values = {"tenant": batch.tenant, "batch": batch.batch, "at": at_ms}
        await self._write(partial(_change, sql=sql, values=values))

    async def end(self, batch: MessageBatch, rows: Mapping[JobState, int], at_ms: int) -> None:
        """Note that every request has its row; the counts stay as they are then."""
        counts = {name: rows[state] for state, name in _ENDS.items()}
        sets = ", ".join(f"{name} = :{name}" for name in counts)
        sql = f"UPDATE message_batches SET ended_at = :at, {sets} {_OF} AND ended_at IS NULL"
        values = {"tenant": batch.tenant, "batch": batch.batch, "at": at_ms, **counts}
        await self._write(partial(_change, sql=sql, values=values))

    async def remove(self, batch: MessageBatch) -> None:
        """Remove the requests and the row of a batch."""
        await self.drop(batch.batch)
        values = {"tenant": batch.tenant, "batch": batch.batch}
        sql = f"DELETE FROM message_batches {_OF}"
        await self._write(partial(_change, sql=sql, values=values))

    async def drop(self, batch: str) -> None:
        """Remove the requests of a batch."""
        work = partial(
            _change,
            sql="DELETE FROM requests WHERE batch = :batch AND seq IN "
            f"(SELECT seq FROM requests WHERE batch = :batch LIMIT {DELETED_AT_ONCE})",
            values={"batch": batch},
        )
        while await self._write(work):
            pass

    async def remains(self, before: str, *, since: str = "") -> list[str]:
        """Return the ids of creates that broke off: requests without their batch.

        Only ids from `since` on, and below `before`.
        """
        return await self._database.run(partial(remains, before=before, since=since))

    async def requests(self, batch: str) -> AsyncIterator[list[StoredRequest]]:
        """Yield the requests of a batch in their order, a page at a time."""
        after: int | None = 0
        while after is not None:
            page, after = await self._database.run(partial(_requests, batch=batch, after=after))
            if page:
                yield page

    async def bodies(self, batch: str, seqs: Sequence[int]) -> dict[int, StoredRequest]:
        """Return place -> request, for those of `seqs` that the batch has."""
        work = partial(_requests_at, batch=batch, seqs=seqs)
        found = await self._database.run(work, within_s=ANSWER_S * 3)
        return {each.seq: each for each in found}

    async def named(self, batch: str) -> MessageBatch | None:
        """Return the batch of any tenant; None when there is none, or it was deleted."""
        where = "WHERE batch = :batch AND deleted_at IS NULL"
        work = partial(_read, where=where, values={"batch": batch})
        return next(iter(await self._database.run(work, within_s=ANSWER_S)), None)

    async def ends(self, batch: str) -> AsyncIterator[list[End]]:
        """Yield how the requests of a batch ended, in their order, a page at a time."""
        place = (0, "")
        while True:
            page, place = await self._database.run(partial(_ends, batch=batch, after=place))
            if not page:
                return
            yield page

    async def _write(self, work: Callable[[Connection], int]) -> int:
        return await self._database.run(work, write=True, within_s=ANSWER_S * 3)


def _change(connection: Connection, sql: str, values: Mapping[str, object]) -> int:
    return connection.change(sql, values)


def _add(
    connection: Connection, new: MessageBatch, named_since: str, lost_since: str | None
) -> MessageBatch:
    if connection.dialect == "postgresql":  # in SQLite there is one writer
        values = {"key": f"{new.tenant} {new.idempotency_key or new.digest}"}
        connection.rows("SELECT pg_advisory_xact_lock(hashtextextended(:key, 0))", values)
    earlier = _earlier(connection, new, named_since, lost_since)
    if earlier is None:
        connection.change(_ADD, msgspec.structs.asdict(new))
        return new
    if new.idempotency_key is None:
        sql = f"UPDATE message_batches SET answered_at = :at {_OF}"
        taken = {"tenant": new.tenant, "batch": earlier.batch, "at": new.created_at}
        connection.change(sql, taken)
    return earlier


def _earlier(
    connection: Connection, new: MessageBatch, named_since: str, lost_since: str | None
) -> MessageBatch | None:
    """Return the batch that an earlier sending of the same create has made."""
    where = "WHERE tenant = :tenant AND batch >= :since AND deleted_at IS NULL"
    values = {"tenant": new.tenant}
    if new.idempotency_key is not None:
        where += " AND idempotency_key = :name"
        values |= {"since": named_since, "name": new.idempotency_key}
    elif lost_since is not None:
        where += " AND digest = :name AND idempotency_key IS NULL AND answered_at IS NULL"
        values |= {"since": lost_since, "name": new.digest or ""}
    else:
        return None
    return next(iter(_read(connection, where, "ORDER BY batch LIMIT 1", values)), None)


def _stage(connection: Connection, batch: str, requests: Sequence[StoredRequest]) -> int:
    rows = [(batch, each.seq, each.custom_id, each.model, each.body.decode()) for each in requests]
    sql = _STAGE[connection.dialect]
    if connection.dialect == "postgresql":
        return connection.change(
            sql, dict(zip(REQUESTS, map(list, zip(*rows, strict=True)), strict=True))
        )
    return connection.change_each(sql, rows)


def _read(
    connection: Connection,
    where: str,
    order: str = "ORDER BY batch",
    values: Mapping[str, object] | None = None,
) -> list[MessageBatch]:
    rows = connection.named(f"SELECT {_ALL} FROM message_batches {where} {order}", values or {})
    return [MessageBatch(**{name: row[name] for name in MESSAGE_BATCHES}) for row in rows]


def _requests(
    connection: Connection, batch: str, after: int
) -> tuple[list[StoredRequest], int | None]:
    """Return the next page, and where it ends; None: it is the last.

    It has PAGE requests, and PAGE_BYTES unless the first one has more.
    """
    values = {"batch": batch, "after": after}
    in_order(connection)
    sizes = connection.rows(_SIZES[connection.dialect], values)
    last, total = after, 0
    for seq, size in sizes:
        total += size
        if total > PAGE_BYTES and last > after:
            break
        last = seq
    query = f"{_BODIES} AND seq > :after AND seq <= :last ORDER BY seq"
    more = len(sizes) == PAGE or (sizes and last < sizes[-1][0])
    found = _stored_requests(connection, query, {**values, "last": last})
    return found, last if more else None


def _requests_at(connection: Connection, batch: str, seqs: Sequence[int]) -> list[StoredRequest]:
    names = {f"s{number}": seq for number, seq in enumerate(seqs)}
    query = f"{_BODIES} AND seq IN ({', '.join(f':{name}' for name in names)})"
    return _stored_requests(connection, query, {"batch": batch, **names}) if names else []


def _stored_requests(
    connection: Connection, query: str, values: Mapping[str, object]
) -> list[StoredRequest]:
    return [
        StoredRequest(seq=seq, custom_id=custom_id, model=model, body=body.encode())
        for seq, custom_id, model, body in connection.rows(query, values)
    ]


def _ends(
    connection: Connection, batch: str, after: tuple[int, str]
) -> tuple[list[End], tuple[int, str]]:
    query = (
        "SELECT custom_id, status, message, error, request_id, seq, job_id, "
        "CASE WHEN status = 'failed' THEN attempts END AS attempts FROM results "
        "WHERE batch = :batch AND (seq, job_id) > (:seq, :job_id) "
        f"ORDER BY seq, job_id LIMIT {PAGE}"
    )
    values = {"batch": batch, "seq": after[0], "job_id": after[1]}
    in_order(connection)
    rows: Sequence[Any] = connection.rows(query, values)
    return [_end(row) for row in rows], (rows[-1][5], rows[-1][6]) if rows else after


def _end(row: Sequence[Any]) -> End:
    custom_id, status, message, error, request_id, _, _, attempts = row
    calls = attempts_of(attempts) if attempts else ()
    last = calls[-1].status if calls else None
    return End(custom_id or "", state_of(status), message, error_of(error), request_id, last)
