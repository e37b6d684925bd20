"""Shared by the other examples: Redis, a worker and an endpoint on this machine, for one block.

In production these parts run elsewhere: a Redis, `nightmill worker` on some machines, and the real
endpoint. A producer then needs NIGHTMILL_REDIS_URL and nothing from this file.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from nightmill import Settings, load_settings
from nightmill_worker.machine.serving import serving_redis
from nightmill_worker.machine.supervisor import Supervisor
from nightmill_worker.simulator import Simulator, SimulatorConfig

REHEARSAL = Path("rehearsal")
"""Data directory of simulated answers: they must not be taken for real ones."""


@asynccontextmanager
async def local_fleet() -> AsyncIterator[Settings]:
    """Run one worker process; yield the settings that reach its Redis and its results store.

    Without NIGHTMILL_REDIS_URL it starts an embedded Valkey, without a credential the simulator.
    """
    settings = load_settings()
    async with AsyncExitStack() as stack:
        if not settings.has_credential:
            endpoint = await stack.enter_async_context(Simulator(SimulatorConfig(latency_s=0.2)))
            settings = load_settings(
                data_dir=REHEARSAL, base_url=endpoint.url, api_key="simulated", rehearsal=True
            )
        served = await stack.enter_async_context(serving_redis(settings))
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        log = stack.enter_context((settings.data_dir / "worker.log").open("ab"))
        supervisor = Supervisor(settings, 1, log=log)
        workers = asyncio.create_task(supervisor.run())
        try:
            yield served
        finally:
            supervisor.stop()  # calls in flight may finish
            await workers
