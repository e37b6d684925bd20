"""Makes the schema on first use, and refuses one that a newer program made."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, insert, inspect, select, text

from nightmill.errors import StoreError
from nightmill.store.database import BUSY_TIMEOUT_MS
from nightmill.store.faults import locked
from nightmill.store.schema import SCHEMA_VERSION, meta, metadata

if TYPE_CHECKING:
    from nightmill.store.database import Database

LOCKED_PAUSE_S: Final = 0.02
SCHEMA_LOCK: Final = 0x6E69676874
"""PostgreSQL advisory lock held while the schema is made."""


async def prepare(database: Database) -> None:
    """Make the schema on first use, safely when several processes do so at once, else check it.

    Raises StoreError when the schema is newer than this program, StoreUnavailableError when the
    store cannot be reached.
    """
    version = await _when_unlocked(database)
    if version is None:
        version = await database.run(_make, write=True)
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{database.where}: its schema is version {version}, this nightmill knows up to "
            f"{SCHEMA_VERSION}; install the newer nightmill that made it"
        )


async def _when_unlocked(database: Database) -> int | None:
    """Return the schema's version, None for a new store; outwait others who turn it to WAL.

    Turning a new file to WAL while another process does fails at once, without SQLite's waiting.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            return await database.run(_version)
        except StoreError as error:
            if not locked(error) or loop.time() > deadline:
                raise
        await asyncio.sleep(LOCKED_PAUSE_S)


def _version(connection: Connection) -> int | None:
    if not inspect(connection).has_table(meta.name):
        return None
    return connection.scalar(select(meta.c.schema_version))


def _make(connection: Connection) -> int:
    """Make the schema unless another process was first; return its version."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": SCHEMA_LOCK})
    version = _version(connection)
    if version is not None:
        return version
    metadata.create_all(connection)
    connection.execute(insert(meta).values(schema_version=SCHEMA_VERSION))
    return SCHEMA_VERSION
