"""What the other examples stand on: a whole mill on this machine, for the length of a block.

In production these parts run elsewhere: a Redis, `nightmill worker` on some machines, and the real
endpoint. A producer then needs NIGHTMILL_REDIS_URL and nothing of this.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from nightmill import Settings, load_settings
from nightmill.queue.locate import with_redis
from nightmill_worker.machine.supervisor import Supervisor
from nightmill_worker.simulator import Simulator, SimulatorConfig

REHEARSAL = Path("rehearsal")  # its answers never pass for real ones


@asynccontextmanager
async def mill() -> AsyncIterator[Settings]:
    """Run a worker, and where none is set an embedded Valkey; without a credential, simulate."""
    settings = load_settings()
    async with AsyncExitStack() as stack:
        if not settings.has_credential:
            endpoint = await stack.enter_async_context(Simulator(SimulatorConfig(latency_s=0.2)))
            settings = load_settings(
                data_dir=REHEARSAL, base_url=endpoint.url, api_key="simulated", rehearsal=True
            )
        served = stack.enter_context(with_redis(settings))
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        log = stack.enter_context((settings.data_dir / "worker.log").open("ab"))
        workers = Supervisor(settings, 1, log=log)
        working = asyncio.create_task(workers.run())
        try:
            yield served
        finally:
            workers.stop()  # calls under way may finish
            await working
