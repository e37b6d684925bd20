"""What `nightmill.testing.fake_mill` runs: a worker and the simulator, in one event loop."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.queue.connection import connect
from nightmill.settings import Settings, load_settings
from nightmill.store import ResultStore
from nightmill_worker.events import Events
from nightmill_worker.fleet.worker import FleetWorker
from nightmill_worker.machine.embedded import embedded_server
from nightmill_worker.messages.client import MessagesClient
from nightmill_worker.simulator import Simulator, SimulatorConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

__all__ = ["RunningMill", "embedded_server", "running"]

WEBHOOK_SECRET: Final = "whsec_bmlnaHRtaWxsLXRlc3Rpbmctc2VjcmV0LTAwMDE="  # noqa: S105 - signs only tests
LATENCY_S: Final = 0.01
"""Time of a simulated call unless a test says otherwise, seconds."""


class RunningMill:
    """The running parts."""

    def __init__(self, settings: Settings, simulator: Simulator, worker: FleetWorker) -> None:
        """Start the worker; it has these settings, and calls this endpoint."""
        self.settings = settings
        self._simulator = simulator
        self._worker = worker
        self._working = asyncio.create_task(worker.main())

    async def stop(self) -> None:
        """Stop the worker, and return when it has ended."""
        self._worker.stop(at_once=True)
        await self._working

    def configure(self, **changes: object) -> None:
        """Change the simulated endpoint. Raises ConfigError, which names the field."""
        self._simulator.configure(**changes)

    def stats(self) -> Mapping[str, object]:
        """Return what the simulated endpoint counted."""
        found: dict[str, object] = msgspec.to_builtins(self._simulator.stats())
        return found


@asynccontextmanager
async def running(
    home: Path, redis_url: str, simulated: Mapping[str, object]
) -> AsyncIterator[RunningMill]:
    """Run one worker against a simulated endpoint; nothing of the environment leads elsewhere."""
    async with Simulator(SimulatorConfig(latency_s=LATENCY_S)) as simulator:
        simulator.configure(**simulated)
        settings = load_settings(
            redis_url=redis_url,
            data_dir=home,
            base_url=simulator.url,
            api_key="simulated",
            webhook_secret=WEBHOOK_SECRET,
            webhook_allow_private=True,
        ).model_copy(update={"store_url": None, "auth_token": None})
        async with (
            aclosing(connect(settings)) as redis,
            ResultStore.open(settings.store_at) as store,
            MessagesClient(settings) as client,
        ):
            worker = FleetWorker(settings, redis, store, client, events=Events())
            yield RunningMill(settings, simulator, worker)
