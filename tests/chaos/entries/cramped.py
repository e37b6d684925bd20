"""A worker process whose store has no room to grow while the file of its argument exists.

SQLite itself refuses, with the error that it has for a full disk.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nightmill.store import database
from nightmill_worker.machine import process

if TYPE_CHECKING:
    from sqlalchemy import Connection

ROOMY = 1_000_000
_begin = database._begin


def begin_within_bounds(connection: Connection) -> None:
    """Bound the file as it is now, or let it grow, before the transaction begins."""
    pages = 1 if Path(sys.argv[1]).exists() else ROOMY  # never less than it has
    connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    _begin(connection)


if __name__ == "__main__":
    database._begin = begin_within_bounds
    sys.exit(process.main())
