"""Maps what SQLAlchemy and asyncpg raise to the store's two errors; see faults.py."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import asyncpg
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from nightmill.errors import StoreError, StoreUnavailableError
from nightmill.store import faults

_AWAY: Final = ("08", "25006", "40", "53", "55P03", "57014", "57P", "58")
"""SQLSTATEs and classes of them: connection lost, read-only, serialization failure or deadlock, out
of disk, memory or slots, lock timeout, statement timeout, shutting down, a disk that fails."""
_REFUSES: Final = ("22", "23", "54")
"""Classes: a value that is out of range or not text, a broken constraint, a value too large."""

_FIXES: Final = {
    "unsupported startup parameter": "; take it out of STORE_URL, or let PgBouncer ignore it: "
    "ignore_startup_parameters",
    "unrecognized configuration parameter": "; take it out of STORE_URL: neither asyncpg nor the "
    "server knows it",
}
"""Words of an error -> what to do."""


@contextmanager
def mapped(where: str, *, opened: bool = False) -> Iterator[None]:
    """Raise StoreUnavailableError or StoreError, as faults.mapped does."""
    with faults.mapped(where, opened=opened):
        try:
            yield
        except DBAPIError as error:
            lost = opened or error.connection_invalidated
            raise _named(where, error.orig, opened=lost) from error
        except PoolTimeoutError as error:
            raise StoreUnavailableError(f"{where}: {error}") from error
        except SQLAlchemyError as error:
            kind = StoreUnavailableError if opened else StoreError
            raise kind(f"{where}: {type(error).__name__}") from error


def _named(where: str, error: BaseException | None, *, opened: bool) -> StoreError:
    """Return the error of what the driver raised."""
    sqlstate = getattr(error, "sqlstate", None) or ""
    # asyncpg's DataError, of a value that it cannot encode, is a ValueError without a SQLSTATE.
    unencodable = error is not None and isinstance(error.__cause__, ValueError)
    if unencodable or sqlstate.startswith(_REFUSES):
        return StoreError(f"{where}: {error}")
    no_host = error is not None and isinstance(error.__cause__, asyncpg.InternalClientError)
    away = opened or no_host or sqlstate.startswith(_AWAY)
    fix = next((fix for words, fix in _FIXES.items() if words in str(error)), "")
    return (StoreUnavailableError if away else StoreError)(f"{where}: {error}{fix}")
