"""Finds the database that a path or a URL names."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nightmill.errors import StoreError, StoreMissingError
from nightmill.store.connection import USE
from nightmill.store.own import own_database
from nightmill.store.postgresql_url import parsed
from nightmill.store.sqlite import SQLite

if TYPE_CHECKING:
    from nightmill.store.connection import Database
    from nightmill.store.postgresql_url import Address

POSTGRESQL: Final = "postgres"
DRIVERS: Final = ("sqlalchemy", "asyncpg", "greenlet")
MISSING: Final = (
    "NIGHTMILL_STORE_URL is PostgreSQL: pip install 'nightmill[postgres]' ({} is missing)"
)


def database(where: str | Path) -> Database:
    """Return the database at a SQLite file's path, or at a sqlite:// or postgresql:// URL.

    Nothing is connected yet. Another kind of URL is that of a store of one's own. Raises StoreError
    when none is installed for it, StoreMissingError when a driver is not installed, and
    StoreUnavailableError when a SQLite file's folder cannot be made.
    """
    if isinstance(where, Path):
        return SQLite(str(where), own=True)
    kind, separator, rest = where.partition("://")
    if not separator:
        return SQLite(where)
    match kind.partition("+")[0].lower():
        case "sqlite":
            return SQLite(_file(rest))
        case "postgresql" | "postgres":
            return _postgresql(parsed(where))
        case other:
            return own_database(other, where)


def require_drivers(where: str | Path) -> None:
    """Raise what `database` raises for a URL or a missing driver, without a slow import."""
    if isinstance(where, Path) or not where.startswith(POSTGRESQL):
        return
    parsed(where)
    for name in DRIVERS:
        if find_spec(name) is None:
            raise StoreMissingError(MISSING.format(name))


def _postgresql(address: Address) -> Database:
    try:
        from nightmill.store.postgresql import PostgreSQL  # noqa: PLC0415 - slow

        return PostgreSQL(address)
    except ImportError as error:  # SQLAlchemy, asyncpg or greenlet
        raise StoreMissingError(MISSING.format(error.name or error)) from None


def _file(rest: str) -> str:
    """Return the file of `sqlite://` and `rest`, or its file: URI. Raises StoreError."""
    path, _, options = rest.removeprefix("/").partition("?")
    if not rest.startswith("/") or path in {"", ":memory:"}:
        raise StoreError(f"STORE_URL names no file: {USE}")
    kept = [option for option in options.split("&") if option and option != "uri=true"]
    if kept and not path.startswith("file:"):
        raise StoreError(
            f"STORE_URL has the option {kept[0]}: SQLite takes options in the form "
            "sqlite:///file:/path?option"
        )
    return f"{path}?{'&'.join(kept)}" if kept else path
