"""Brings the schema up to date on first use, and refuses one that a newer program made."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nightmill.errors import StoreError
from nightmill.store.faults import locked
from nightmill.store.schema import NEW_SQLITE, SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from nightmill.store.connection import Connection, Database

MIGRATIONS: Final = Path(__file__).with_name("migrations")
LOCKED_S: Final = 30.0
"""How long to try again while other processes hold a SQLite file's lock, seconds."""
LOCKED_PAUSE_S: Final = 0.02
"""Pause between two such tries, seconds."""
SCHEMA_LOCK: Final = 0x6E69676874
"""PostgreSQL's advisory lock of a schema change; in SQLite the write lock has this purpose."""


async def prepare(database: Database) -> None:
    """Migrate the schema if it is old; several processes may do so at once.

    Raises StoreError when the schema is newer than this program, StoreUnavailableError when the
    store cannot be reached.
    """
    version = await _when_unlocked(database, _version)
    if version < SCHEMA_VERSION:
        version = await _when_unlocked(database, _upgrade, write=True)
    if version > SCHEMA_VERSION:
        raise StoreError(
            f"{database.where}: its schema is version {version}, this nightmill knows up to "
            f"{SCHEMA_VERSION}; install the newer nightmill that made it"
        )


async def _when_unlocked(
    database: Database, work: Callable[[Connection], str], *, write: bool = False
) -> str:
    """Return the version that `work` finds or makes; try again while the store is locked.

    Two processes that switch a new file to WAL at once fail without SQLite's own wait. A fleet
    that starts at once on a busy machine may hold the lock for longer than that wait.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LOCKED_S
    while True:
        try:
            return await database.run(work, write=write)
        except StoreError as error:
            if not locked(error) or loop.time() > deadline:
                raise
        await asyncio.sleep(LOCKED_PAUSE_S)


_TABLES: Final = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'table'",
    "postgresql": "SELECT c.relname FROM pg_class c WHERE c.relkind = 'r' "
    "AND pg_table_is_visible(c.oid) AND c.relname IN ('alembic_version', 'results', 'meta')",
}


def _tables(connection: Connection) -> set[str]:
    return {name for (name,) in connection.rows(_TABLES[connection.dialect])}


def _version(connection: Connection) -> str:
    if "alembic_version" not in _tables(connection):
        return ""
    found = connection.rows("SELECT version_num FROM alembic_version")
    return str(found[0][0]) if found else ""


def _upgrade(connection: Connection) -> str:
    """Run the missing migrations, unless another process has run them; return the version."""
    if connection.dialect == "postgresql":
        connection.rows("SELECT pg_advisory_xact_lock(:key)", {"key": SCHEMA_LOCK})
    version = _version(connection)
    if version >= SCHEMA_VERSION:
        return version
    if connection.dialect == "sqlite" and not _tables(connection):
        for statement in NEW_SQLITE:
            connection.change(statement)
    else:
        _migrate(connection)
    return _version(connection)


def _migrate(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - slow to import, and rarely needed
    from alembic.config import Config  # noqa: PLC0415

    with connection.alchemy() as within:
        config = Config(attributes={"connection": within})
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        command.upgrade(config, "head")
