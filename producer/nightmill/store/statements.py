"""The store's SQL: one function over a connection for each thing it is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
from sqlalchemy import ARRAY, Text, any_, bindparam, delete, func, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from nightmill.records.result import ErrorInfo, Usage
from nightmill.records.state import TERMINAL, JobState
from nightmill.store.database import driver
from nightmill.store.rows import (
    COLUMNS,
    attempts_of,
    error_of,
    from_row,
    storable,
    succeeding,
    to_row,
    to_values,
    usage_of,
)
from nightmill.store.schema import results

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from sqlalchemy import Connection

    from nightmill.records.result import Result

Insert = TypeVar("Insert", sqlite.Insert, postgresql.Insert)

PAGE_ROWS: Final = 200
PRUNE_ROWS: Final = 5_000
"""Rows that one transaction deletes: writers wait for no longer than that."""
UNKNOWN: Final = ErrorInfo(type="unknown", message="no error was recorded")


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What a claim asks about a job: the run that is stored, how it ended, for which request."""

    run: int
    status: JobState
    request_hash: str | None


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch took: tokens, US dollars, and how many of its rows have no price."""

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


# What every job pays for goes to SQLite's driver as text and tuples: SQLAlchemy's handling of them
# was half of the cost. SQLite counts the rows it took; PostgreSQL tells it row by row.
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
# Every claim asks this; compiling and caching the statement anew costs more than SQLite's answer.
_LOOKUP_SQLITE: Final = str(_STORED.where(_AMONG["sqlite"]).compile(dialect=sqlite.dialect()))
_LOOKUP_POSTGRESQL: Final = _STORED.where(_AMONG["postgresql"])
_TOKENS: Final = [results.c[field] for field in Usage.__struct_fields__]


def record(connection: Connection, group: Iterable[Result]) -> int:
    """Store `group` in order and return how many of its rows were taken."""
    taken = 0
    for wave in _waves(group):
        rows = _with_history(connection, wave)
        if connection.dialect.name == "postgresql":
            told = connection.execute(_UPSERT_POSTGRESQL, [to_row(row) for row in rows])
            taken += len(told.all())
        else:
            values = [to_values(row) for row in rows]
            taken += driver(connection).executemany(_UPSERT_SQLITE, values).rowcount
    return taken


def _waves(group: Iterable[Result]) -> Iterator[dict[str, Result]]:
    """Split `group` so that no statement meets one job_id twice, which PostgreSQL refuses."""
    rest = list(group)
    while rest:
        wave: dict[str, Result] = {}
        again = [each for each in rest if wave.setdefault(each.job_id, each) is not each]
        yield wave
        rest = again


def _with_history(connection: Connection, wave: dict[str, Result]) -> list[Result]:
    """Put the earlier runs' attempts in front of the rows that replace them.

    A first run replaces nothing, so only later runs are looked up, and locked until the commit.
    """
    rerun = {storable(job_id): job_id for job_id, result in wave.items() if result.run}
    if rerun:
        query = select(results).where(_AMONG[connection.dialect.name]).with_for_update()
        rows = connection.execute(query, {"ids": _bound(connection, list(rerun))}).mappings()
        for old in map(from_row, rows):
            job_id = rerun[old.job_id]
            wave[job_id] = succeeding(old, wave[job_id])
    return list(wave.values())


def lookup(connection: Connection, ids: Sequence[str]) -> dict[str, Stored]:
    """Return job_id -> what is stored, for those of `ids` that are."""
    named = {storable(job_id): job_id for job_id in ids}
    bound = _bound(connection, list(named))
    if isinstance(bound, str):
        rows = driver(connection).execute(_LOOKUP_SQLITE, (bound,))
    else:
        rows = connection.execute(_LOOKUP_POSTGRESQL, {"ids": bound})
    return {
        named[job_id]: Stored(run=run, status=JobState(status), request_hash=request_hash)
        for job_id, run, status, request_hash in rows
    }


def _bound(connection: Connection, ids: Sequence[str]) -> str | list[str]:
    """Return `ids` as the one parameter that _AMONG takes: JSON text, or a PostgreSQL array."""
    if connection.dialect.name == "postgresql":
        return list(ids)
    return msgspec.json.encode(ids).decode()


def get(connection: Connection, job_id: str) -> Result | None:
    """Return the row of `job_id`, None when it has none."""
    query = select(results).where(results.c.job_id == storable(job_id))
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else from_row(row)


def page(
    connection: Connection,
    batch: str,
    after: Result | None,
    *,
    statuses: Collection[JobState] | None,
    ordered: bool,
) -> list[Result]:
    """Return up to PAGE_ROWS rows of `batch` that follow `after` in the order of reading.

    That order is the source's when `ordered`, else the order in which the jobs finished.
    """
    place = results.c.seq if ordered else results.c.finished_at
    query = select(results).where(results.c.batch == batch)
    query = query.order_by(place, results.c.job_id).limit(PAGE_ROWS)
    if after is not None:
        reached = (after.seq or 0) if ordered else after.finished_at
        query = query.where(tuple_(place, results.c.job_id) > (reached, after.job_id))
    if statuses is not None:
        query = query.where(results.c.status.in_(sorted(statuses)))
    return [from_row(row) for row in connection.execute(query).mappings()]


def counts(connection: Connection, batch: str | None = None) -> dict[str, dict[JobState, int]]:
    """Return batch -> terminal state -> number of rows, of one batch or of all, sorted by name."""
    columns = (results.c.batch, results.c.status)
    query = select(*columns, func.count()).group_by(*columns).order_by(*columns)
    if batch is not None:
        query = query.where(results.c.batch == batch)
    found: dict[str, dict[JobState, int]] = {}
    for name, status, number in connection.execute(query):
        found.setdefault(name, dict.fromkeys(sorted(TERMINAL), 0))[JobState(status)] = number
    return found


def spent(connection: Connection, batch: str) -> Spent:
    """Return what the rows of `batch` took, summed."""
    columns = (*_TOKENS, results.c.cost)
    sums = [func.coalesce(func.sum(column), 0).label(column.name) for column in columns]
    priced = [func.count().label("rows"), func.count(results.c.cost).label("priced")]
    query = select(*sums, *priced).where(results.c.batch == batch)
    row = connection.execute(query).mappings().one()
    return Spent(usage=usage_of(row), cost=float(row["cost"]), unpriced=row["rows"] - row["priced"])


def errors(connection: Connection, batch: str) -> list[tuple[ErrorInfo, int, str]]:
    """Return the different errors of `batch`, how often each, and a job it happened to."""
    query = (
        select(results.c.error, func.count(), func.min(results.c.job_id))
        .where(results.c.batch == batch, results.c.status == JobState.FAILED)
        .group_by(results.c.error)
    )
    return [
        (error_of(error) or UNKNOWN, count, example)
        for error, count, example in connection.execute(query)
    ]


def lost(connection: Connection, batch: str) -> tuple[int, float]:
    """Return how many calls ended with their worker, and dollars: each as its job's row cost."""
    query = select(results.c.attempts, results.c.cost).where(
        results.c.batch == batch, results.c.attempts.contains('"outcome":"lost"', autoescape=True)
    )
    calls, dollars = 0, 0.0
    for attempts, cost in connection.execute(query):
        number = sum(each.outcome == "lost" for each in attempts_of(attempts))
        calls += number
        dollars += number * (cost or 0.0)
    return calls, dollars


def prune(connection: Connection, batch: str | None, before_ms: int | None) -> int:
    """Delete up to PRUNE_ROWS rows of `batch`, or of all, that ended before; return how many."""
    some = select(results.c.job_id).limit(PRUNE_ROWS)
    if batch is not None:
        some = some.where(results.c.batch == batch)
    if before_ms is not None:
        some = some.where(results.c.finished_at < before_ms)
    return connection.execute(delete(results).where(results.c.job_id.in_(some))).rowcount
