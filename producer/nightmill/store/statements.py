"""The store's SQL: for each operation, one function over a connection of either database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.errors import StoreUnavailableError
from nightmill.records.place import Place
from nightmill.records.result import TOKENS
from nightmill.records.state import TERMINAL, JobState
from nightmill.records.stop_reasons import LONGEST, NONE
from nightmill.store import referred, turns
from nightmill.store.among import AMONG, AMONG_BATCHES
from nightmill.store.among import bound as among_ids
from nightmill.store.bounds import batch_key, clean, job_key
from nightmill.store.in_order import in_order
from nightmill.store.rows import (
    COLUMNS,
    from_row,
    state_of,
    succeeding,
    to_values,
)
from nightmill.store.schema import RESULTS
from nightmill.store.spending import Ledger, Spent, add_all, of_row, read, spent_on, spent_on_calls

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from nightmill.records.result import Result
    from nightmill.store.connection import Connection

PAGE_ROWS: Final = 200
"""Rows that are read at once."""
PRUNE_ROWS: Final = 5_000
"""Rows that one transaction deletes; writers wait for it."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What the store has of a job: its run, how it ended and stopped, the hash of its request.

    `request_hash` is None for a job whose request could not be read.
    """

    run: int
    status: JobState
    request_hash: str | None
    stop_reason: str | None = None


_ALL: Final = ", ".join(COLUMNS)
_REPLACE: Final = ", ".join(f"{name} = excluded.{name}" for name in COLUMNS if name != "job_id")
# A higher run replaces a row, any other is refused.
_ON_CONFLICT: Final = (
    f"ON CONFLICT (job_id) DO UPDATE SET {_REPLACE} WHERE excluded.run > results.run"
)
UPSERT_SQLITE: Final = (
    f"INSERT INTO results ({_ALL}) VALUES ({', '.join('?' * len(COLUMNS))}) {_ON_CONFLICT}"
)
# All rows of a statement are one parameter a column, so any number of them is the same statement.
_ARRAYS: Final = ", ".join(
    f"CAST(:{name} AS {definition.split()[0]}[])" for name, definition in RESULTS.items()
)
UPSERT_POSTGRESQL: Final = (
    f"INSERT INTO results ({_ALL}) SELECT * FROM unnest({_ARRAYS}) {_ON_CONFLICT}"
)
_LOOKUP: Final = {
    dialect: f"SELECT job_id, run, status, request_hash, stop_reason FROM results WHERE {among}"
    for dialect, among in AMONG.items()
}
_STARTED: Final = {
    dialect: f"SELECT job_id, run FROM results WHERE {among} "
    f"UNION ALL SELECT job_id, CAST(NULL AS INTEGER) FROM turns WHERE {among}"
    for dialect, among in AMONG.items()
}
# PostgreSQL locks the rows that are about to be replaced; in SQLite there is one writer.
_REPLACED: Final = {
    dialect: f"SELECT {_ALL} FROM results WHERE {among}"
    + (" FOR UPDATE" if dialect == "postgresql" else "")
    for dialect, among in AMONG.items()
}
# sum() fails over int64 in SQLite; in PostgreSQL it returns a numeric, which has no limit.
_SPENT: Final = {
    dialect: "SELECT "
    + "".join(f"coalesce({total}({name}), 0) AS {name}, " for name in (*TOKENS, "cost"))
    + "count(*) - count(cost) AS unpriced, "
    + "count(CASE WHEN status = 'succeeded' THEN 1 END) AS answers, batch FROM results"
    for dialect, total in {"sqlite": "total", "postgresql": "sum"}.items()
}

# Storing a row, replacing it by a later run, or deleting it changes one of these. Times and tokens
# are cut to 31 bits, since a sum over int64 fails in SQLite.
_STATE: Final = (
    "SELECT count(*), sum(run), sum(attempt_count), max(finished_at), "
    + ", ".join(
        f"sum({name} % 2147483647)" for name in ("finished_at", "input_tokens", "output_tokens")
    )
    + " FROM results WHERE batch = :batch"
)


def probe(connection: Connection) -> None:
    """Raise StoreUnavailableError unless the database takes writes; SQLite's BEGIN has shown it."""
    if connection.dialect == "postgresql":
        ((read_only,),) = connection.rows("SELECT current_setting('transaction_read_only')")
        if read_only == "on":
            raise StoreUnavailableError("the results store is read-only")


def record(connection: Connection, group: Iterable[Result]) -> int:
    """Store `group` in order and return how many of its rows were taken."""
    taken, ledger = 0, Ledger()
    for wave in _waves(group):
        calls = {key: row for key, row in wave.items() if any(a.usage for a in row.attempts)}
        values = [to_values(row) for row in _with_history(connection, wave, ledger)]
        if connection.dialect == "postgresql":
            arrays = dict(zip(COLUMNS, map(list, zip(*values, strict=True)), strict=True))
            some = connection.change(UPSERT_POSTGRESQL, arrays)
        else:
            some = connection.change_each(UPSERT_SQLITE, values)
        referred.fill(connection, wave.values())
        if some < len(values):
            _add_refused(connection, wave, ledger)
        else:
            for row in calls.values():
                ledger.add(row.batch, spent_on_calls(row))
        turns.settle(connection, wave, ledger)
        taken += some
    ledger.write(connection)
    return taken


def _add_refused(connection: Connection, wave: dict[str, Result], ledger: Ledger) -> None:
    """Add what answers used whose rows were refused: their jobs were answered twice.

    A row that is committed again is the stored one.
    """
    ids = {"ids": among_ids(connection, wave)}
    columns = "job_id, run, finished_at, request_id"
    query = f"SELECT {columns} FROM results WHERE {AMONG[connection.dialect]}"
    stored = {row[0]: tuple(row[1:]) for row in connection.rows(query, ids)}
    for key, row in wave.items():
        if stored.get(key) != (row.run, row.finished_at, row.request_id):
            ledger.add(row.batch, turns.spent_on_last(row))


def _waves(group: Iterable[Result]) -> Iterator[dict[str, Result]]:
    """Split `group` into dicts by key: one statement of PostgreSQL takes each key only once."""
    rest = list(group)
    while rest:
        wave: dict[str, Result] = {}
        again = [each for each in rest if wave.setdefault(job_key(each.job_id), each) is not each]
        yield wave
        rest = again


def _with_history(connection: Connection, wave: dict[str, Result], ledger: Ledger) -> list[Result]:
    """Put the earlier runs' attempts in front of the rows that replace them.

    What the replaced rows used goes to the ledger. A first run replaces nothing, so only later
    runs are looked up, and locked until the commit.
    """
    reruns = [key for key, result in wave.items() if result.run]
    if reruns:
        ids = {"ids": among_ids(connection, reruns)}
        rows = connection.named(_REPLACED[connection.dialect], ids)
        for old in map(from_row, rows):
            if wave[old.job_id].run > old.run:
                ledger.add(old.batch, spent_on(old))
            wave[old.job_id] = succeeding(old, wave[old.job_id])
    return list(wave.values())


def lookup(connection: Connection, ids: Sequence[str]) -> dict[str, Stored]:
    """Return job_id -> what is stored, for those of `ids` that have a row."""
    keys = {job_id: job_key(job_id) for job_id in ids}
    bound = among_ids(connection, keys.values())
    rows = connection.rows(_LOOKUP[connection.dialect], {"ids": bound})
    found = {
        key: Stored(
            run=run, status=state_of(status), request_hash=request_hash, stop_reason=stop_reason
        )
        for key, run, status, request_hash, stop_reason in rows
    }
    return {job_id: found[key] for job_id, key in keys.items() if key in found}


def started(connection: Connection, ids: Sequence[str]) -> tuple[dict[str, int], set[str]]:
    """Return job_id -> run of its row, and the ids that have turns: what a claim must know."""
    keys = {job_key(job_id): job_id for job_id in ids}
    values = {"ids": among_ids(connection, keys)}
    runs: dict[str, int] = {}
    going: set[str] = set()
    for key, run in connection.rows(_STARTED[connection.dialect], values):
        if run is None:
            going.add(keys[key])
        else:
            runs[keys[key]] = run
    return runs, going


def get(connection: Connection, job_id: str) -> Result | None:
    """Return the result of `job_id`, None when it has no row."""
    query = f"SELECT {_ALL} FROM results WHERE job_id = :job_id"
    rows = connection.named(query, {"job_id": job_key(job_id)})
    return from_row(rows[0]) if rows else None


def among(connection: Connection, ids: Sequence[str]) -> list[Result]:
    """Return the results of those of `ids` that have a row, in the order of `ids`."""
    keys = [job_key(job_id) for job_id in ids]
    query = f"SELECT {_ALL} FROM results WHERE {AMONG[connection.dialect]}"
    rows = connection.named(query, {"ids": among_ids(connection, keys)})
    found = {row["job_id"]: row for row in rows}
    return [from_row(found[key]) for key in keys if key in found]


def page(  # noqa: PLR0913 - the place, the order, and what is chosen
    connection: Connection,
    batch: str,
    after: Place | None,
    *,
    statuses: Collection[JobState] | None,
    ordered: bool,
    stop_reason: str | None = None,
) -> tuple[list[Result], Place | None]:
    """Return the next PAGE_ROWS results of `batch` after a place, and where they end.

    With `stop_reason` only those that are counted under that name.

    They are in the source's order when `ordered`, else in the order in which the jobs finished.
    The place is None after the last page.
    """
    order = "seq" if ordered else "finished_at"
    values: dict[str, object] = {"batch": batch_key(batch)}
    where = "batch = :batch"
    if after is not None:
        where += f" AND ({order}, job_id) > (:value, :job_id)"
        values |= after._asdict()
    if statuses is not None:
        names = ", ".join(f"'{status.value}'" for status in sorted(statuses))
        where += f" AND status IN ({names or 'NULL'})"
    if stop_reason is not None:
        where += f" AND substr(coalesce(stop_reason, '{NONE}'), 1, {LONGEST}) = :stop_reason"
        values["stop_reason"] = clean(stop_reason)
    in_order(connection)
    rows = connection.named(
        f"SELECT {_ALL} FROM results WHERE {where} ORDER BY {order}, job_id LIMIT {PAGE_ROWS}",
        values,
    )
    more = len(rows) == PAGE_ROWS
    end = Place(rows[-1][order], rows[-1]["job_id"]) if more else None
    return [from_row(row) for row in rows], end


def counts(
    connection: Connection, batches: Sequence[str] | None = None
) -> dict[str, dict[JobState, int]]:
    """Return batch -> terminal state -> number of rows, sorted by name; None counts all batches."""
    where = "" if batches is None else f"WHERE {AMONG_BATCHES[connection.dialect]}"
    query = (
        f"SELECT batch, status, count(*) FROM results {where} "
        "GROUP BY batch, status ORDER BY batch, status"
    )
    values = {} if batches is None else {"ids": among_ids(connection, map(batch_key, batches))}
    found: dict[str, dict[JobState, int]] = {}
    for name, status, number in connection.rows(query, values):
        found.setdefault(name, dict.fromkeys(sorted(TERMINAL), 0))[state_of(status)] += number
    return found


def spent(connection: Connection, batch: str) -> Spent:
    """Return tokens and cost of all answers of `batch`, also of those that are no rows any more."""
    query = f"{_SPENT[connection.dialect]} WHERE batch = :batch GROUP BY batch"
    rows = connection.named(query, {"batch": batch_key(batch)})
    return sum(map(of_row, rows), read(connection, batch) + turns.spent(connection, batch))


def ended_since(connection: Connection, batch: str, since_ms: int) -> tuple[int, int]:
    """Return how many rows of `batch` ended at `since_ms` or later, and when the first did.

    The index of the order of completion has both.
    """
    query = (
        "SELECT count(*), min(finished_at) FROM results "
        "WHERE batch = :batch AND finished_at >= :since"
    )
    ((number, first),) = connection.rows(query, {"batch": batch_key(batch), "since": since_ms})
    return number, first or 0


def state(connection: Connection, batch: str) -> str:
    """Return a text that changes when a row of `batch` is stored, replaced or deleted."""
    (row,) = connection.rows(_STATE, {"batch": batch_key(batch)})
    return " ".join(map(str, row))


def prune(connection: Connection, batch: str | None, before_ms: int | None) -> int:
    """Delete up to PRUNE_ROWS rows and return how many were deleted.

    Only rows of `batch` unless it is None, and only those that ended before `before_ms` unless
    that is None.
    """
    wanted: dict[str, tuple[str, object]] = {}
    if batch is not None:
        wanted["batch"] = "batch = :batch", batch_key(batch)
    if before_ms is not None:
        wanted["before_ms"] = "finished_at < :before_ms", before_ms
    where = " AND ".join(["true", *(condition for condition, _ in wanted.values())])
    values = {name: value for name, (_, value) in wanted.items()}
    some = connection.rows(f"SELECT job_id FROM results WHERE {where} LIMIT {PRUNE_ROWS}", values)
    ids = {"ids": among_ids(connection, [job_id for (job_id,) in some])}
    among = f"WHERE {AMONG[connection.dialect]}"
    ledger = Ledger()
    add_all(ledger, connection.named(f"{_SPENT[connection.dialect]} {among} GROUP BY batch", ids))
    deleted = connection.change(f"DELETE FROM results {among}", ids)
    ledger.write(connection)
    return deleted
