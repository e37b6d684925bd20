"""A worker process that waits for PostgreSQL only as many seconds as its argument says."""

from __future__ import annotations

import sys

from nightmill.store import postgresql, postgresql_url, store
from nightmill_worker.machine import process

if __name__ == "__main__":
    seconds = float(sys.argv[1])
    postgresql.ANSWER_S = store.ANSWER_S = seconds  # type: ignore[attr-defined]
    postgresql_url.CONNECT_TIMEOUT_S = seconds  # type: ignore[misc]
    sys.exit(process.main())
