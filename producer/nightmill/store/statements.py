"""The store's SQL: for each operation, one function over a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import msgspec
from sqlalchemy import ARRAY, Text, any_, bindparam, delete, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from nightmill.errors import StoreUnavailableError
from nightmill.records.result import Usage
from nightmill.records.state import TERMINAL, JobState
from nightmill.store.bounds import batch_key, bounded_fields, job_key
from nightmill.store.rows import (
    COLUMNS,
    UNKNOWN,
    attempts_of,
    error_of,
    from_row,
    state_of,
    succeeding,
    to_row,
    to_values,
    usage_of,
)
from nightmill.store.schema import results
from nightmill.store.sqlite import driver

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from sqlalchemy import Connection

    from nightmill.records.result import ErrorInfo, Result

Insert = TypeVar("Insert", sqlite.Insert, postgresql.Insert)

PAGE_ROWS: Final = 200
"""Rows that are read at once."""
PRUNE_ROWS: Final = 5_000
"""Rows that one transaction deletes; writers wait for it."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What the store has of a job: its run, how it ended, and the hash of its request.

    `request_hash` is None for a job whose request could not be read.
    """

    run: int
    status: JobState
    request_hash: str | None


class Place(NamedTuple):
    """Where a page ended: the row's value in the order of reading, and its key, as stored."""

    value: int
    job_id: str


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens and US dollars of a batch, summed; `unpriced` rows have no known price."""

    usage: Usage = Usage()
    cost: float = 0.0
    unpriced: int = 0


def _upsert(insert: Insert) -> Insert:
    """Insert rows; a higher run replaces a row, any other is refused."""
    return insert.on_conflict_do_update(
        index_elements=[results.c.job_id],
        set_={c.name: insert.excluded[c.name] for c in results.c if not c.primary_key},
        where=insert.excluded.run > results.c.run,
    )


# Statements that run for every job go to SQLite's driver as text and tuples, because SQLAlchemy's
# handling of them was half of their cost. SQLite counts the rows it took; PostgreSQL returns them.
_UPSERT_SQLITE: Final = str(
    _upsert(sqlite.insert(results)).compile(dialect=sqlite.dialect(), column_keys=COLUMNS)
)
_UPSERT_POSTGRESQL: Final = _upsert(postgresql.insert(results)).returning(results.c.job_id)

# A list of ids is one parameter, so that every length of list is the same prepared statement.
_AMONG: Final = {
    "sqlite": results.c.job_id.in_(
        select(func.json_each(bindparam("ids", type_=Text)).table_valued("value").c.value)
    ),
    "postgresql": results.c.job_id == any_(bindparam("ids", type_=ARRAY(Text))),
}
_STORED: Final = select(results.c.job_id, results.c.run, results.c.status, results.c.request_hash)
# Every claim runs this lookup. Compiling it each time would cost more than SQLite's answer.
_LOOKUP_SQLITE: Final = str(_STORED.where(_AMONG["sqlite"]).compile(dialect=sqlite.dialect()))
_LOOKUP_POSTGRESQL: Final = _STORED.where(_AMONG["postgresql"])
_TOKENS: Final = [results.c[field] for field in Usage.__struct_fields__]


def probe(connection: Connection) -> None:
    """Raise StoreUnavailableError unless the database takes writes; SQLite's BEGIN has shown it."""
    if connection.dialect.name == "postgresql":
        query = select(func.current_setting("transaction_read_only"))
        if connection.scalar(query) == "on":
            raise StoreUnavailableError("the results store is read-only")


def record(connection: Connection, group: Iterable[Result]) -> int:
    """Store `group` in order and return how many of its rows were taken."""
    taken = 0
    for wave in _waves(group):
        rows = _with_history(connection, wave)
        if connection.dialect.name == "postgresql":
            stored = connection.execute(_UPSERT_POSTGRESQL, [to_row(row) for row in rows])
            taken += len(stored.all())
        else:
            values = [to_values(row) for row in rows]
            taken += driver(connection).executemany(_UPSERT_SQLITE, values).rowcount
    return taken


def _waves(group: Iterable[Result]) -> Iterator[dict[str, Result]]:
    """Split `group` into dicts by key: one statement of PostgreSQL takes each key only once."""
    rest = list(group)
    while rest:
        wave: dict[str, Result] = {}
        again = [each for each in rest if wave.setdefault(job_key(each.job_id), each) is not each]
        yield wave
        rest = again


def _with_history(connection: Connection, wave: dict[str, Result]) -> list[Result]:
    """Put the earlier runs' attempts in front of the rows that replace them.

    A first run replaces nothing, so only later runs are looked up, and locked until the commit.
    """
    reruns = [key for key, result in wave.items() if result.run]
    if reruns:
        query = select(results).where(_AMONG[connection.dialect.name]).with_for_update()
        rows = connection.execute(query, {"ids": _bound(connection, reruns)}).mappings()
        for old in map(from_row, rows):
            wave[old.job_id] = succeeding(old, wave[old.job_id])
    return list(wave.values())


def lookup(connection: Connection, ids: Sequence[str]) -> dict[str, Stored]:
    """Return job_id -> what is stored, for those of `ids` that have a row."""
    keys = {job_id: job_key(job_id) for job_id in ids}
    bound = _bound(connection, list(keys.values()))
    if isinstance(bound, str):
        rows = driver(connection).execute(_LOOKUP_SQLITE, (bound,))
    else:
        rows = connection.execute(_LOOKUP_POSTGRESQL, {"ids": bound})
    found = {
        key: Stored(run=run, status=state_of(status), request_hash=request_hash)
        for key, run, status, request_hash in rows
    }
    return {job_id: found[key] for job_id, key in keys.items() if key in found}


def _bound(connection: Connection, ids: Sequence[str]) -> str | list[str]:
    """Return keys as the one parameter of _AMONG: JSON text, or an array for PostgreSQL."""
    if connection.dialect.name == "postgresql":
        return list(ids)
    return msgspec.json.encode(ids).decode()


def get(connection: Connection, job_id: str) -> Result | None:
    """Return the result of `job_id`, None when it has no row."""
    query = select(results).where(results.c.job_id == job_key(job_id))
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else from_row(row)


def page(
    connection: Connection,
    batch: str,
    after: Place | None,
    *,
    statuses: Collection[JobState] | None,
    ordered: bool,
) -> tuple[list[Result], Place | None]:
    """Return the next PAGE_ROWS results of `batch` after a place, and where they end.

    They are in the source's order when `ordered`, else in the order in which the jobs finished.
    The place is None after the last page.
    """
    order = results.c.seq if ordered else results.c.finished_at
    query = select(results).where(results.c.batch == batch_key(batch))
    query = query.order_by(order, results.c.job_id).limit(PAGE_ROWS)
    if after is not None:
        query = query.where(tuple_(order, results.c.job_id) > tuple(after))
    if statuses is not None:
        query = query.where(results.c.status.in_(sorted(statuses)))
    rows = connection.execute(query).mappings().all()
    more = len(rows) == PAGE_ROWS
    end = Place(rows[-1][order.name], rows[-1]["job_id"]) if more else None
    return [from_row(row) for row in rows], end


def counts(connection: Connection, batch: str | None = None) -> dict[str, dict[JobState, int]]:
    """Return batch -> terminal state -> number of rows, sorted by name; None counts all batches."""
    columns = (results.c.batch, results.c.status)
    query = select(*columns, func.count()).group_by(*columns).order_by(*columns)
    if batch is not None:
        query = query.where(results.c.batch == batch_key(batch))
    found: dict[str, dict[JobState, int]] = {}
    for name, status, number in connection.execute(query):
        found.setdefault(name, dict.fromkeys(sorted(TERMINAL), 0))[state_of(status)] += number
    return found


def spent(connection: Connection, batch: str) -> Spent:
    """Return tokens and cost of the rows of `batch`, summed."""
    # sum() fails over int64 in SQLite; in PostgreSQL it returns a numeric, which has no limit.
    summed = func.total if connection.dialect.name == "sqlite" else func.sum
    columns = (*_TOKENS, results.c.cost)
    sums = [func.coalesce(summed(column), 0).label(column.name) for column in columns]
    priced = [func.count().label("rows"), func.count(results.c.cost).label("priced")]
    query = select(*sums, *priced).where(results.c.batch == batch_key(batch))
    row = connection.execute(query).mappings().one()
    usage = bounded_fields(usage_of(row))
    return Spent(usage=usage, cost=float(row["cost"]), unpriced=row["rows"] - row["priced"])


def errors(connection: Connection, batch: str) -> list[tuple[ErrorInfo, int, str]]:
    """Return the different errors of `batch`, how many jobs have each, and one such job's id."""
    query = (
        select(results.c.error, func.count(), func.min(results.c.job_id))
        .where(results.c.batch == batch_key(batch), results.c.status == JobState.FAILED)
        .group_by(results.c.error)
    )
    return [
        (error_of(error) or UNKNOWN, count, example)
        for error, count, example in connection.execute(query)
    ]


def lost(connection: Connection, batch: str) -> tuple[int, float]:
    """Return how many calls of `batch` ended with their worker, and an estimate of their cost.

    A lost call is estimated at the cost of its job's row, US dollars.
    """
    query = select(results.c.attempts, results.c.cost).where(
        results.c.batch == batch_key(batch),
        results.c.attempts.contains('"outcome":"lost"', autoescape=True),
    )
    calls, dollars = 0, 0.0
    for attempts, cost in connection.execute(query):
        number = sum(each.outcome == "lost" for each in attempts_of(attempts))
        calls += number
        dollars += number * (cost or 0.0)
    return calls, dollars


def prune(connection: Connection, batch: str | None, before_ms: int | None) -> int:
    """Delete up to PRUNE_ROWS rows and return how many were deleted.

    Only rows of `batch` unless it is None, and only those that ended before `before_ms` unless
    that is None.
    """
    some = select(results.c.job_id).limit(PRUNE_ROWS)
    if batch is not None:
        some = some.where(results.c.batch == batch_key(batch))
    if before_ms is not None:
        some = some.where(results.c.finished_at < before_ms)
    return connection.execute(delete(results).where(results.c.job_id.in_(some))).rowcount
