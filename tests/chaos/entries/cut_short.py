"""A worker process that kills itself around its first commit, as a power cut would.

Its argument is `unstored` (just before the commit) or `stored` (after the commit, before the
finish that removes the jobs from Redis).
"""

from __future__ import annotations

import os
import signal
import sys

from nightmill.store import ResultStore
from nightmill_worker.machine import process
from nightmill_worker.queue.scripts import Scripts


async def die(*_: object) -> None:
    """End this process without any cleanup."""
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    if sys.argv[1] == "stored":
        Scripts.finish = die  # type: ignore[method-assign,assignment]
    else:
        ResultStore.record = die  # type: ignore[method-assign,assignment]
    sys.exit(process.main())
