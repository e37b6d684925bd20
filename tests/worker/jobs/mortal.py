"""An isolation process that the word "poison" in a request ends, as a bug in native code would."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from nightmill.records.api import NO_API, Api
from nightmill_worker.jobs import isolated
from nightmill_worker.messages.client import MessagesClient

if TYPE_CHECKING:
    from nightmill_worker.messages.client import Started
    from nightmill_worker.messages.outcome import Broken, Reply


class MortalClient(MessagesClient):
    """Ends the process when a request contains the word."""

    async def send(
        self, params: bytes, started: Started | None = None, api: Api = NO_API
    ) -> Reply | Broken:
        """Call, or end the process."""
        if b"poison" in params:
            os._exit(9)
        return await super().send(params, started, api)


if __name__ == "__main__":
    isolated.MessagesClient = MortalClient  # type: ignore[attr-defined]
    asyncio.run(isolated.main())
