"""The SQL of how the jobs of a batch ended: stop reasons, errors, lost calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightmill.store.bounds import batch_key
from nightmill.store.rows import UNKNOWN, attempts_of, error_of, state_of

if TYPE_CHECKING:
    from nightmill.records.result import ErrorInfo
    from nightmill.records.state import JobState
    from nightmill.store.connection import Connection


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


def errors(connection: Connection, batch: str) -> list[tuple[ErrorInfo, int, str]]:
    """Return the different errors of `batch`, how many jobs have each, and one such job's id."""
    query = (
        "SELECT error, count(*), min(job_id) FROM results "
        "WHERE batch = :batch AND status = 'failed' GROUP BY error"
    )
    return [
        (error_of(error) or UNKNOWN, count, example)
        for error, count, example in connection.rows(query, {"batch": batch_key(batch)})
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
