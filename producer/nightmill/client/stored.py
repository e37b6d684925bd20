"""Reads results from the store, where a client has one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from nightmill.safety import private

if TYPE_CHECKING:
    from nightmill.records.result import Result
    from nightmill.settings import Settings
    from nightmill.store import ResultStore


@asynccontextmanager
async def store_beside(settings: Settings) -> AsyncIterator[ResultStore | None]:
    """Open the results store; None without the store's extra or without a data directory.

    Where no data directory is, no result was ever stored.
    """
    where = settings.store_at
    nowhere = isinstance(where, Path) and not private.exists(where.parent)
    if nowhere or find_spec("sqlalchemy") is None:
        yield None
        return
    from nightmill.store import ResultStore  # noqa: PLC0415 - optional extra

    async with ResultStore.open(where) as store:
        yield store


async def from_store(settings: Settings, job_id: str) -> Result | None:
    """Return the stored row of a job; None without a store or without a row."""
    if find_spec("sqlalchemy") is None:
        return None
    from nightmill.store import ResultStore  # noqa: PLC0415 - optional extra

    where = settings.store_at
    if isinstance(where, Path) and not private.exists(where):
        return None
    async with ResultStore.open(where) as store:
        return await store.get(job_id)
