"""The SQL of `nightmill report`: the small columns of every row of a batch, a page at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nightmill.store.bounds import batch_key
from nightmill.store.in_order import in_order

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightmill.store.connection import Connection

ROWS: Final = 5_000
"""Rows that are read at once."""


class ReportRow(NamedTuple):
    """What a report reads of one row; the columns of `results`."""

    finished_at: int
    job_id: str
    status: str
    stop_reason: str | None
    model: str | None
    input_tokens: int
    output_tokens: int
    cache_read_input_tokens: int
    cache_creation_input_tokens: int
    cost: float | None
    enqueued_at: int
    started_at: int | None
    attempt_count: int
    snooze_count: int
    attempts: str | None
    """None of a job with one call that was answered at once: most have nothing to tell."""
    queue_ms: int | None
    call_ms: int
    snooze_reasons: str | None
    cost_parts: str | None


_CALLED_AGAIN: Final = "attempt_count + snooze_count <> 1 OR turns > 0 OR status = 'failed'"
_COLUMNS: Final = ", ".join(
    f"CASE WHEN {_CALLED_AGAIN} THEN attempts END" if name == "attempts" else name
    for name in ReportRow._fields
)


def page(
    connection: Connection, batch: str, after: tuple[int, str] | None
) -> Sequence[Sequence[Any]]:
    """Return the next ROWS rows of `batch` in the order in which they ended; see ReportRow."""
    where = "batch = :batch"
    values: dict[str, object] = {"batch": batch_key(batch)}
    if after is not None:
        where += " AND (finished_at, job_id) > (:finished_at, :job_id)"
        values |= {"finished_at": after[0], "job_id": after[1]}
    in_order(connection)
    return connection.rows(
        f"SELECT {_COLUMNS} FROM results WHERE {where} ORDER BY finished_at, job_id LIMIT {ROWS}",
        values,
    )


def period(connection: Connection, batch: str) -> tuple[int, int] | None:
    """Return when the first and the last row of `batch` ended, epoch ms; None without rows."""
    ((first, last),) = connection.rows(
        "SELECT min(finished_at), max(finished_at) FROM results WHERE batch = :batch",
        {"batch": batch_key(batch)},
    )
    return None if first is None else (first, last)
