"""A worker process that is killed when a turn is stored, before its job is released."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from nightmill_worker.completion.releases import Releases
from nightmill_worker.machine import process

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightmill_worker.queue.records import Release

_give_back = Releases.give_back


async def killed(self: Releases, items: Sequence[Release]) -> None:
    """Die at the first release of a turn."""
    if any(item.chain for item in items):
        os.kill(os.getpid(), signal.SIGKILL)
    await _give_back(self, items)


if __name__ == "__main__":
    Releases.give_back = killed  # type: ignore[method-assign]
    sys.exit(process.main())
