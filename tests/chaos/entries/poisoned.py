"""A worker process that one prompt kills, as a bug in native code would."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

from nightmill.records.api import NO_API, Api
from nightmill_worker.jobs import isolated, isolation
from nightmill_worker.machine import process
from nightmill_worker.messages.client import MessagesClient

if TYPE_CHECKING:
    from nightmill_worker.messages.client import Started
    from nightmill_worker.messages.outcome import Broken, Reply

MARK = b"poison"


class MortalClient(MessagesClient):
    """Ends the process when a request contains MARK."""

    async def send(
        self, params: bytes, started: Started | None = None, api: Api = NO_API
    ) -> Reply | Broken:
        """Call, or end the process."""
        if MARK in params:
            os._exit(9)
        return await super().send(params, started, api)


if __name__ == "__main__":
    if "--isolated" in sys.argv:
        isolated.MessagesClient = MortalClient  # type: ignore[attr-defined]
        asyncio.run(isolated.main())
    else:
        isolation.COMMAND = (sys.executable, __file__, "--isolated")
        process.MessagesClient = MortalClient  # type: ignore[attr-defined]
        sys.exit(process.main())
