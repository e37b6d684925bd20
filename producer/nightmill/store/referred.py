"""Puts the request into a new row that only refers to it: the database copies it, not Python."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightmill.records.stored_body import stored_body

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nightmill.records.result import Result
    from nightmill.store.connection import Connection

_FILL = (
    "UPDATE results SET params = (SELECT body FROM requests "
    "WHERE requests.batch = :batch AND requests.seq = :seq) WHERE job_id = :job_id AND run = :run"
)


def fill(connection: Connection, rows: Iterable[Result]) -> None:
    """Complete those of `rows` that refer to a request; call it after they were stored."""
    for row in rows:
        if row.params is None or (at := stored_body(bytes(row.params), row.batch)) is None:
            continue
        values = {"batch": at.batch, "seq": at.seq, "job_id": row.job_id, "run": row.run}
        connection.change(_FILL, values)
