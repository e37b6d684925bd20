"""A list of ids as one parameter, so that every length of list is the same statement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nightmill.store.connection import Connection

AMONG: Final = {
    "sqlite": "job_id IN (SELECT value FROM json_each(:ids))",
    "postgresql": "job_id = ANY(CAST(:ids AS TEXT[]))",
}
AMONG_BATCHES: Final = {
    "sqlite": "batch IN (SELECT value FROM json_each(:ids))",
    "postgresql": "batch = ANY(CAST(:ids AS TEXT[]))",
}
"""Dialect -> the condition; its parameter `ids` is what `bound` returns."""


def bound(connection: Connection, ids: Iterable[str]) -> str | list[str]:
    """Return ids as that parameter: JSON text, or an array for PostgreSQL."""
    if connection.dialect == "postgresql":
        return list(ids)
    return msgspec.json.encode(list(ids)).decode()
