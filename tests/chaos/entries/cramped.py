"""A worker process whose store cannot grow while the file named by its argument exists.

SQLite refuses writes with its own error for a full disk.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nightmill.store.sqlite import SQLiteConnection
from nightmill_worker.machine import process

ROOMY = 1_000_000
_writing = SQLiteConnection.writing


@contextmanager
def writing_within_bounds(self: SQLiteConnection) -> Iterator[None]:
    """Limit the file to its present size, or lift the limit, before the transaction begins."""
    pages = (
        1 if Path(sys.argv[1]).exists() else ROOMY
    )  # SQLite takes the present size when this is smaller
    self.rows(f"PRAGMA max_page_count={pages}")
    with _writing(self):
        yield


if __name__ == "__main__":
    SQLiteConnection.writing = writing_within_bounds  # type: ignore[method-assign]
    sys.exit(process.main())
