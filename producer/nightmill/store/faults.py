"""Maps what databases raise to the store's two errors, with advice.

StoreUnavailableError: the store is away, and the same call may work later. StoreError: the store
refuses what it was given, a row or a setting. Once a store has been opened, its settings work, so
every error that is not about a row's values means that it is away.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from nightmill.errors import StoreError, StoreUnavailableError

# SQLite's primary result code -> advice for the person who reads the error.
_SQLITE_AWAY: Final = {
    "SQLITE_FULL": "its disk is full; free some space",
    "SQLITE_READONLY": "it is read-only; make the file and its folder writable",
    "SQLITE_BUSY": "it is locked by another program; close that program",
    "SQLITE_LOCKED": "it is locked by another program; close that program",
    "SQLITE_CANTOPEN": "it cannot be opened; check that the path is a file in a writable folder",
    "SQLITE_IOERR": "its disk does not answer; check the disk",
    "SQLITE_PERM": "it may not be opened; check the file's permissions",
    "SQLITE_NOMEM": "the machine is out of memory; free some",
    "SQLITE_PROTOCOL": "it is locked by another program; close that program",
}
_SQLITE_REFUSES: Final = ("SQLITE_CONSTRAINT", "SQLITE_MISMATCH", "SQLITE_TOOBIG")
"""A value breaks a constraint, has the wrong type, or is too large."""
_SQLITE_BINDING: Final = "Error binding parameter"
"""How the message starts for a value that the driver cannot pass to SQLite; it has no code."""


@contextmanager
def mapped(where: str, *, opened: bool = False) -> Iterator[None]:
    """Raise StoreUnavailableError or StoreError, naming the store `where`, for errors inside.

    `opened` says that the store has worked before. The text has the driver's own message only.
    """
    try:
        yield
    except StoreError:
        raise
    except sqlite3.Error as error:
        raise _named(where, error, opened=opened) from error
    except (OverflowError, RecursionError, UnicodeError) as error:  # a value cannot be encoded
        raise StoreError(f"{where}: {type(error).__name__}: {error}") from error
    except OSError as error:
        text = str(error) or "it did not answer in time"
        raise StoreUnavailableError(f"{where}: {text}") from error
    except RuntimeError as error:  # uvloop: of a lost connection
        kind = StoreUnavailableError if opened else StoreError
        raise kind(f"{where}: {type(error).__name__}") from error


def locked(error: StoreError) -> bool:
    """Tell whether `error` says that another process held SQLite's lock."""
    return _code(error.__cause__) == "SQLITE_BUSY"


def _named(where: str, error: sqlite3.Error, *, opened: bool) -> StoreError:
    code = _code(error)
    if code in _SQLITE_REFUSES or str(error).startswith(_SQLITE_BINDING):
        return StoreError(f"{where}: {error}")
    if advice := _SQLITE_AWAY.get(code):
        return StoreUnavailableError(f"{where}: {advice} ({error})")
    return (StoreUnavailableError if opened else StoreError)(f"{where}: {error}")


def _code(error: BaseException | None) -> str:
    """Return the name of the primary code: SQLITE_IOERR for SQLITE_IOERR_WRITE, "" elsewhere."""
    name = getattr(error, "sqlite_errorname", None) or ""
    return "_".join(name.split("_")[:2])
