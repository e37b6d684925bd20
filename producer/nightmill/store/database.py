"""The two databases behind one interface: a function is run over a SQLAlchemy connection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from nightmill.errors import StoreError
from nightmill.store.postgresql import SCAN_S, PostgreSQL
from nightmill.store.sqlite import SQLite

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection

T = TypeVar("T")


class Database(Protocol):
    """A database that runs functions over a Connection."""

    where: str
    """Its URL, without the password."""
    opened: bool
    """Set once its schema is ready: from then on, errors that are not about a row mean "away"."""

    async def run(
        self, work: Callable[[Connection], T], *, write: bool = False, within_s: float = SCAN_S
    ) -> T:
        """Return what `work` returns, in one transaction; without `write` it must only read.

        Raises StoreUnavailableError or StoreError for what the database raises, and
        StoreUnavailableError when a server has not answered within `within_s` seconds.
        """
        ...

    async def glance(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` returns: a read of a few hundred keys. Raises as `run` does."""
        ...

    async def close(self) -> None:
        """Close every connection, after the work that has started."""
        ...


def database(where: str | Path) -> Database:
    """Return the database at a SQLite file's path, or at a sqlite:// or postgresql:// URL.

    Nothing is connected yet. Raises StoreError for another kind of URL, StoreMissingError when
    its driver is not installed, StoreUnavailableError when a SQLite file's folder cannot be made.
    """
    if isinstance(where, Path) or "://" not in where:
        return SQLite(URL.create("sqlite", database=str(where)), own=isinstance(where, Path))
    try:
        url = make_url(where)
    except (ArgumentError, ValueError):
        raise StoreError("STORE_URL is not a URL: use sqlite:///path or postgresql://...") from None
    if "@" in (url.host or ""):  # messages name the host, and this one begins inside the password
        raise StoreError("STORE_URL: percent-encode the @ in its password (%40)")
    match url.get_backend_name():
        case "sqlite":
            return SQLite(url.set(drivername="sqlite"))
        case "postgresql" | "postgres":
            return PostgreSQL(url.set(drivername="postgresql+asyncpg"))
        case kind:
            raise StoreError(f"STORE_URL is {kind}://: use sqlite:///path or postgresql://...")
