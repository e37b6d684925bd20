"""A worker process whose store cannot grow while the file named by its argument exists.

SQLite refuses writes with its own error for a full disk.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nightmill.store import sqlite
from nightmill_worker.machine import process

if TYPE_CHECKING:
    from sqlalchemy import Connection

ROOMY = 1_000_000
_begin = sqlite._begin


def begin_within_bounds(connection: Connection) -> None:
    """Limit the file to its present size, or lift the limit, before the transaction begins."""
    pages = (
        1 if Path(sys.argv[1]).exists() else ROOMY
    )  # SQLite takes the present size when this is smaller
    connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    _begin(connection)


if __name__ == "__main__":
    sqlite._begin = begin_within_bounds
    sys.exit(process.main())
