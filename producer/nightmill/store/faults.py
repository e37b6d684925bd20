"""What databases raise, mapped to the store's own errors, with what to do about it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from nightmill.errors import StoreError, StoreUnavailableError

# SQLite's primary result code -> what it means for the person who reads it.
_SQLITE: Final = {
    "SQLITE_FULL": "its disk is full; free some space",
    "SQLITE_READONLY": "it is read-only; make the file and its folder writable",
    "SQLITE_BUSY": "it is locked by another program; close that program",
    "SQLITE_CANTOPEN": "it cannot be opened; check that the path is a file in a writable folder",
    "SQLITE_IOERR": "its disk does not answer; check the disk",
    "SQLITE_PERM": "it may not be opened; check the file's permissions",
}
_POSTGRES_AWAY: Final = ("08", "25006", "53", "57P", "58030")
"""SQLSTATEs and classes of them: connection lost, read-only, out of disk or memory or slots,
shutting down, a disk that does not answer."""


@contextmanager
def mapped(where: str) -> Iterator[None]:
    """Raise StoreUnavailableError or StoreError, naming the store `where`, for what happens inside.

    The text never holds a row's content: only the driver's own message is passed on.
    """
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        raise _named(where, error) from error
    except (OSError, PoolTimeoutError) as error:
        raise StoreUnavailableError(f"{where}: {error}") from error
    except SQLAlchemyError as error:
        raise StoreError(f"{where}: {type(error).__name__}") from error


def locked(error: StoreError) -> bool:
    """Tell whether `error` says that another process held SQLite's lock."""
    return _sqlite_code(error.__cause__) == "SQLITE_BUSY"


def _named(where: str, error: DBAPIError | sqlite3.Error) -> StoreError:
    said = _said(error)
    if advice := _SQLITE.get(_sqlite_code(error)):
        return StoreUnavailableError(f"{where}: {advice} ({said})")
    away = getattr(error, "connection_invalidated", False)
    away = away or _sqlstate(error).startswith(_POSTGRES_AWAY)
    return (StoreUnavailableError if away else StoreError)(f"{where}: {said}")


def _said(error: BaseException | None) -> BaseException | None:
    """Return what the driver raised, which SQLAlchemy may have wrapped."""
    return error.orig if isinstance(error, DBAPIError) else error


def _sqlite_code(error: BaseException | None) -> str:
    """Return the primary code's name: SQLITE_IOERR for SQLITE_IOERR_WRITE, "" elsewhere."""
    name = getattr(_said(error), "sqlite_errorname", None) or ""
    return "_".join(name.split("_")[:2])


def _sqlstate(error: BaseException) -> str:
    return getattr(_said(error), "sqlstate", None) or ""
