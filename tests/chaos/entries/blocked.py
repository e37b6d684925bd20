"""A worker process whose event loop blocks once, until the file named by its argument exists."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nightmill.records.api import NO_API, Api
from nightmill_worker.machine import process
from nightmill_worker.messages.client import MessagesClient

if TYPE_CHECKING:
    from nightmill_worker.messages.client import Started
    from nightmill_worker.messages.outcome import Broken, Reply

NTH = 10
"""The call whose answer blocks the loop. Other calls are under way by then."""


class BlockingClient(MessagesClient):
    """Blocks the event loop at the NTH answer, as a slow library would."""

    _numbers = itertools.count(1)

    async def send(
        self, params: bytes, started: Started | None = None, api: Api = NO_API
    ) -> Reply | Broken:
        """Call, and block after the NTH call."""
        reply = await super().send(params, started, api)
        if next(self._numbers) == NTH:
            sys.stderr.write('{"event": "is blocked"}\n')
            while not Path(sys.argv[1]).exists():  # noqa: ASYNC240 - blocking is the fault
                time.sleep(0.01)  # noqa: ASYNC251
        return reply


if __name__ == "__main__":
    process.MessagesClient = BlockingClient  # type: ignore[attr-defined]
    sys.exit(process.main())
