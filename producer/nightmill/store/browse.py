"""Reads of a batch whose work is bounded, however many rows it has: for pages of the console."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from nightmill.records.place import Place
from nightmill.store.bounds import batch_key, clean
from nightmill.store.connection import ANSWER_S
from nightmill.store.in_order import in_order
from nightmill.store.rows import COLUMNS, UNKNOWN, error_of, from_row, state_of

if TYPE_CHECKING:
    from nightmill.records.result import ErrorInfo, Result
    from nightmill.records.state import JobState
    from nightmill.store.connection import Connection, Database
    from nightmill.store.store import ResultStore

WINDOW: Final = 500
"""Rows through which one step of a search for text looks."""
NEWEST: Final = 2_000
"""Rows of which distributions are made."""
FAILURES: Final = 20_000
"""Failed rows that are grouped."""
PREFIXED: Final = 2_000
"""Rows of single jobs among which an id is looked for; those of other batches lie between."""
_ALL: Final = ", ".join(COLUMNS)
_ORDER: Final = "ORDER BY finished_at DESC, job_id DESC"
_LAST: Final = "\U0010ffff"


class Figures(NamedTuple):
    """What one job took and used."""

    queue_ms: int | None
    call_ms: int
    input_tokens: int
    output_tokens: int


class Looked(NamedTuple):
    """What one step of a search for text has found, the newest first."""

    found: list[Result]
    rows: int
    """Through how many rows it looked."""
    end: Place | None
    """Where the next step goes on; None: it has seen all."""


class Browser:
    """Bounded reads of one store. Every method raises what the store's methods raise."""

    def __init__(self, store: ResultStore) -> None:
        """Use a store that the caller closes."""
        self._database: Database = store.database

    async def newest(self, batch: str, limit: int, before: Place | None = None) -> list[Result]:
        """Return the newest results of `batch`, those that ended before the place `before`."""
        work = partial(_newest, batch=batch, limit=limit, before=before)
        return await self._database.run(work, within_s=ANSWER_S)

    async def with_id(self, batch: str, start: str, limit: int) -> list[Result]:
        """Return results of `batch` whose custom_id (of single jobs: id) begins with `start`."""
        work = partial(_with_id, batch=batch, start=start, limit=limit)
        return await self._database.run(work, within_s=ANSWER_S)

    async def look_for(self, batch: str, text: str, before: Place | None) -> Looked:
        """Look for `text` in the answers and errors of the next WINDOW results."""
        work = partial(_look_for, batch=batch, text=text, before=before)
        return await self._database.run(work, within_s=ANSWER_S)

    async def figures(self, batch: str) -> list[Figures]:
        """Return the figures of the NEWEST results of `batch`."""
        return await self._database.run(partial(_figures, batch=batch), within_s=ANSWER_S)

    async def errors(self, batch: str) -> list[tuple[ErrorInfo, int, str]]:
        """Return the different errors among FAILURES failed jobs, how many have each, and one."""
        return await self._database.run(partial(_errors, batch=batch), within_s=ANSWER_S)

    async def stops(self, batch: str) -> list[tuple[JobState, str | None, str]]:
        """Return status, stop reason and one job's id for each end among the NEWEST results."""
        return await self._database.run(partial(_stops, batch=batch), within_s=ANSWER_S)


def _of(batch: str, before: Place | None) -> tuple[str, dict[str, object]]:
    """Return the condition of the rows of `batch` that ended before a place, and its values."""
    values: dict[str, object] = {"batch": batch_key(batch)}
    if before is None:
        return "WHERE batch = :batch", values
    values |= before._asdict()
    return "WHERE batch = :batch AND (finished_at, job_id) < (:value, :job_id)", values


def _newest(connection: Connection, batch: str, limit: int, before: Place | None) -> list[Result]:
    where, values = _of(batch, before)
    in_order(connection)
    sql = f"SELECT {_ALL} FROM results {where} {_ORDER} LIMIT {limit}"
    return [from_row(row) for row in connection.named(sql, values)]


def _with_id(connection: Connection, batch: str, start: str, limit: int) -> list[Result]:
    low = clean(f"{batch}:{start}" if batch else start)
    sql = (
        f"SELECT {_ALL} FROM (SELECT {_ALL} FROM results WHERE job_id >= :low AND job_id < :high "
        f"ORDER BY job_id LIMIT {limit if batch else PREFIXED}) AS part WHERE batch = :batch "
        f"ORDER BY job_id LIMIT {limit}"
    )
    in_order(connection)
    values = {"low": low, "high": low + _LAST, "batch": batch_key(batch)}
    return [from_row(row) for row in connection.named(sql, values)]


def _look_for(connection: Connection, batch: str, text: str, before: Place | None) -> Looked:
    where, values = _of(batch, before)
    in_order(connection)
    last = connection.rows(
        f"SELECT finished_at, job_id FROM results {where} {_ORDER} LIMIT 1 OFFSET {WINDOW - 1}",
        values,
    )
    rows = WINDOW
    if not last:
        ((rows,),) = connection.rows(
            f"SELECT count(*) FROM (SELECT 1 FROM results {where} LIMIT {WINDOW}) AS part", values
        )
    holds = "strpos" if connection.dialect == "postgresql" else "instr"
    # Endpoints write a letter beyond ASCII as itself or as an escape.
    needles = {"plain": json.dumps(text, ensure_ascii=False)[1:-1], "ascii": json.dumps(text)[1:-1]}
    any_of = " OR ".join(
        f"{holds}(coalesce({column}, ''), :{name}) > 0"
        for column in ("message", "error")
        for name in needles
    )
    sql = (
        f"SELECT {_ALL} FROM (SELECT {_ALL} FROM results {where} {_ORDER} LIMIT {WINDOW}) AS part "
        f"WHERE {any_of} {_ORDER}"
    )
    cleaned = {name: clean(needle) for name, needle in needles.items()}
    found = [from_row(row) for row in connection.named(sql, values | cleaned)]
    return Looked(found, rows, Place(*last[0]) if last else None)


def _figures(connection: Connection, batch: str) -> list[Figures]:
    where, values = _of(batch, None)
    in_order(connection)
    columns = ", ".join(Figures._fields)
    sql = f"SELECT {columns} FROM results {where} {_ORDER} LIMIT {NEWEST}"
    return [Figures(*row) for row in connection.rows(sql, values)]


def _errors(connection: Connection, batch: str) -> list[tuple[ErrorInfo, int, str]]:
    sql = (
        "SELECT error, count(*), min(job_id) FROM (SELECT error, job_id FROM results "
        f"WHERE batch = :batch AND status = 'failed' LIMIT {FAILURES}) AS part GROUP BY error"
    )
    return [
        (error_of(error) or UNKNOWN, number, example)
        for error, number, example in connection.rows(sql, {"batch": batch_key(batch)})
    ]


def _stops(connection: Connection, batch: str) -> list[tuple[JobState, str | None, str]]:
    where, values = _of(batch, None)
    in_order(connection)
    sql = (
        "SELECT status, stop_reason, min(job_id) FROM (SELECT status, stop_reason, job_id "
        f"FROM results {where} {_ORDER} LIMIT {NEWEST}) AS part GROUP BY status, stop_reason"
    )
    return [(state_of(status), stop, job) for status, stop, job in connection.rows(sql, values)]
