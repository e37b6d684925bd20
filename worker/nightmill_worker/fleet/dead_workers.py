"""After a crash: the jobs of worker processes that have ended are claimed again at once.

Without this they wait until their leases run out. Only workers of one data directory with its
embedded server are looked at, and only those whose end life_lock.py proves. A worker whose answers
are still in its spool is left alone until they are stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nightmill_worker.events import Emit, LeasesReleased
from nightmill_worker.fleet import life_lock

if TYPE_CHECKING:
    from pathlib import Path

    from nightmill_worker.completion.spool import Spool
    from nightmill_worker.queue.scripts import Scripts

FOLDER: Final = "workers"
"""In the data directory: the lock files of its workers."""


class DeadWorkers:
    """Releases the leases of the workers of one data directory that have ended."""

    def __init__(self, folder: Path, spool: Spool, scripts: Scripts, emit: Emit) -> None:
        """Take the folder of the lock files, and a look whether answers wait on the disk."""
        self._folder = folder
        self._spool = spool
        self._scripts = scripts
        self._emit = emit

    async def release(self) -> bool:
        """Release the leases of all that have ended; return False while answers of some wait."""
        done = True
        for worker, path in life_lock.ended(self._folder):
            if self._spool.is_used_by(worker):
                done = False
                continue
            jobs = await self._scripts.release_dead(worker)
            path.unlink(missing_ok=True)
            if jobs:
                self._emit(LeasesReleased(worker=worker, jobs=jobs))
        return done
