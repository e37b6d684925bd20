"""A new Valkey with its append-only file on; its commands and CPU are counted."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from redis.asyncio import Redis

from nightmill_worker.machine.embedded import embedded_server


class Server:
    """A running server. `async with` counts its `commands` and its `cpu_s` (seconds)."""

    def __init__(self, url: str, folder: Path, redis: Redis) -> None:
        """Take its URL, its folder, which is deleted at the end, and a client."""
        self.url = url
        self.folder = folder
        self.redis = redis
        self.commands = 0
        self.cpu_s = 0.0

    async def __aenter__(self) -> Self:
        """Count from here on."""
        await self.redis.config_resetstat()
        self.cpu_s = -await self._cpu_s()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop counting. Commands inside scripts are included."""
        if error is None:
            self.cpu_s += await self._cpu_s()
            stats = await self.redis.info("commandstats")
            ours = ("cmdstat_info", "cmdstat_config|resetstat")
            self.commands = sum(s["calls"] for name, s in stats.items() if name not in ours)

    async def _cpu_s(self) -> float:
        cpu = await self.redis.info("cpu")
        return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])

    async def quiet(self) -> bool:
        """Whether no rewrite of the append-only file is running."""
        return not (await self.redis.info("persistence"))["aof_rewrite_in_progress"]


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    """Run a server in a temporary folder for the length of the block."""
    with (
        tempfile.TemporaryDirectory(prefix="nm-bench-") as name,
        embedded_server(Path(name)) as url,
    ):
        redis: Redis = Redis.from_url(url)
        try:
            yield Server(url, Path(name), redis)
        finally:
            await redis.aclose()
