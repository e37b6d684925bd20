"""Reads the next page of rows in the order of an index, not by a sort of all that follow."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nightmill.store.connection import Connection


def in_order(connection: Connection) -> None:
    """Let the reads of this transaction take their order from an index.

    PostgreSQL's statistics of a batch that was stored just now say that it has few rows. It sorts
    all of them for each page then, so that the time of a batch grows with the square of its rows.
    """
    if connection.dialect == "postgresql":
        connection.rows("SELECT set_config('enable_sort', 'off', true)")
