"""What a worker process tells about itself: version, host, process, memory."""

from __future__ import annotations

import os
import socket
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nightmill.queue.live_workers import Facts
from nightmill.records.job import now_ms

if TYPE_CHECKING:
    from nightmill.settings import Settings

_STATM: Final = Path("/proc/self/statm")


def facts_of(settings: Settings) -> Facts:
    """Return what does not change while this process lives."""
    return Facts(
        version=version("nightmill"),
        host=socket.gethostname(),
        pid=os.getpid(),
        started_at=now_ms(),
        most=settings.max_in_flight,
    )


def memory() -> int:
    """Return the resident bytes of this process; 0 where the system does not tell."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
