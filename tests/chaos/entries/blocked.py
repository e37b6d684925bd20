"""A worker process whose loop is blocked once, for as many seconds as its argument says."""

from __future__ import annotations

import itertools
import sys
import time
from typing import TYPE_CHECKING

from nightmill_worker import process
from nightmill_worker.messages.client import MessagesClient

if TYPE_CHECKING:
    from nightmill_worker.messages.outcome import Broken, Reply

NTH = 10
"""The call whose answer blocks the loop: others are under way by then."""


class BlockingClient(MessagesClient):
    """Holds up the whole process when the NTH answer is there, as a slow library would."""

    _numbers = itertools.count(1)

    async def send(self, params: bytes) -> Reply | Broken:
        """Call; then block, or not."""
        reply = await super().send(params)
        if next(self._numbers) == NTH:
            time.sleep(float(sys.argv[1]))  # noqa: ASYNC251 - blocking is the fault
            sys.stderr.write('{"event": "was blocked"}\n')
        return reply


if __name__ == "__main__":
    process.MessagesClient = BlockingClient  # type: ignore[attr-defined]
    sys.exit(process.main())
