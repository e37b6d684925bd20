"""A worker process that dies when its first answers are due in the store, as of a power cut.

Its argument says when: `unstored`, just before the commit, or `stored`, between the commit and
the finish that takes the jobs out of Redis.
"""

from __future__ import annotations

import os
import signal
import sys

from nightmill.store import ResultStore
from nightmill_worker.machine import process
from nightmill_worker.queue.scripts import Scripts


async def die(*_: object) -> None:
    """Leave no time for anything."""
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    if sys.argv[1] == "stored":
        Scripts.finish = die  # type: ignore[method-assign,assignment]
    else:
        ResultStore.record = die  # type: ignore[method-assign,assignment]
    sys.exit(process.main())
