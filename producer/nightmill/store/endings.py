"""The SQL of how the jobs of a batch ended: stop reasons, errors, lost calls."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from nightmill.store.bounds import batch_key, date_ms
from nightmill.store.in_order import in_order
from nightmill.store.rows import UNKNOWN, attempts_of, error_of, state_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from nightmill.records.result import ErrorInfo
    from nightmill.records.state import JobState
    from nightmill.store.connection import Connection, Database

Failed: TypeAlias = "tuple[ErrorInfo, int, str]"
"""An error, how many jobs have it, and the id of one of them."""
DIFFERENT: Final = 2_000
"""Errors that are read at once: the texts of a million different ones do not fit into memory."""
NEWEST: Final = 2_000
"""Rows among which the newest failures are looked for."""


def stops(connection: Connection, batch: str) -> list[tuple[JobState, str | None, int, str]]:
    """Return each end of rows of `batch`: status, stop reason, number of rows, one job's id."""
    query = (
        "SELECT status, stop_reason, count(*), min(job_id) FROM results "
        "WHERE batch = :batch GROUP BY status, stop_reason"
    )
    return [
        (state_of(status), stop_reason, number, example)
        for status, stop_reason, number, example in connection.rows(
            query, {"batch": batch_key(batch)}
        )
    ]


def errors(connection: Connection, batch: str) -> list[Failed] | None:
    """Return the different errors of `batch`; None: there are more than DIFFERENT of them."""
    query = (
        "SELECT error, count(*), min(job_id) FROM results "
        f"WHERE batch = :batch AND status = 'failed' GROUP BY error LIMIT {DIFFERENT + 1}"
    )
    rows = connection.rows(query, {"batch": batch_key(batch)})
    if len(rows) > DIFFERENT:
        return None
    return [(error_of(error) or UNKNOWN, count, example) for error, count, example in rows]


def failed_page(
    connection: Connection, batch: str, after: tuple[int, str]
) -> tuple[list[Failed], tuple[int, str] | None]:
    """Return the next failed rows of `batch` as they ended, and the last one; None: no more."""
    in_order(connection)
    rows = connection.rows(
        "SELECT error, job_id, finished_at FROM results WHERE batch = :batch "
        "AND status = 'failed' AND (finished_at, job_id) > (:finished_at, :job_id) "
        f"ORDER BY finished_at, job_id LIMIT {DIFFERENT}",
        {"batch": batch_key(batch), "finished_at": after[0], "job_id": after[1]},
    )
    found = [(error_of(error) or UNKNOWN, 1, job_id) for error, job_id, _ in rows]
    return found, (rows[-1][2], rows[-1][1]) if len(rows) == DIFFERENT else None


def newest_failures(
    connection: Connection, batch: str, number: int
) -> list[tuple[int, str, ErrorInfo]]:
    """Return the newest failures of `batch`: when each ended (epoch ms), its job's id, its error.

    They are of the last NEWEST rows that ended: a page that is shown every second must not read
    the millions of rows that may lie behind the last failure.
    """
    query = (
        "SELECT finished_at, job_id, error FROM (SELECT finished_at, job_id, status, error "
        "FROM results WHERE batch = :batch ORDER BY finished_at DESC, job_id DESC "
        f"LIMIT {NEWEST}) AS newest WHERE status = 'failed' "
        "ORDER BY finished_at DESC, job_id DESC LIMIT :number"
    )
    in_order(connection)
    return [
        (date_ms(at), job_id, error_of(error) or UNKNOWN)
        for at, job_id, error in connection.rows(
            query, {"batch": batch_key(batch), "number": number}
        )
    ]


def lost(connection: Connection, batch: str) -> tuple[int, float]:
    """Return how many calls of `batch` ended with their worker, and an estimate of their cost.

    A lost call is estimated at the cost of its job's row, US dollars.
    """
    query = "SELECT attempts, cost FROM results WHERE batch = :batch AND attempts LIKE :lost"
    values = {"batch": batch_key(batch), "lost": '%"outcome":"lost"%'}
    calls, dollars = 0, 0.0
    for attempts, cost in connection.rows(query, values):
        number = sum(each.outcome == "lost" for each in attempts_of(attempts))
        calls += number
        dollars += number * (cost or 0.0)
    return calls, dollars


async def error_pages(database: Database, batch: str) -> AsyncGenerator[list[Failed], None]:
    """Yield pages of the errors of `batch`; where very many differ, an error comes again."""
    found = await database.run(partial(errors, batch=batch))
    after: tuple[int, str] | None = None if found is not None else (-1, "")
    while found or after:
        if found:
            yield found
        if after is None:
            return
        found, after = await database.run(partial(failed_page, batch=batch, after=after))
