"""What runs beside the claims: renewing leases, hearing wakes, governing lanes, webhooks."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from redis import exceptions

from nightmill.errors import QueueUnavailableError, StoreUnavailableError
from nightmill.queue import keys
from nightmill_worker.events import JobsCancelled, LeaseLost
from nightmill_worker.limiter.governor import STAND_BY_S, TICK_S, Governor

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nightmill.maintenance.cancellation import Cancellation
    from nightmill_worker.events import Emit
    from nightmill_worker.jobs.in_flight import InFlight
    from nightmill_worker.queue.scripts import Scripts
    from nightmill_worker.webhooks.delivery import Delivery

HEALTH_S: Final = 5.0
LISTEN_AGAIN_S: Final = 1.0
SWEEP_S: Final = 0.5


class Background:
    """The standing duties of one worker process."""

    def __init__(  # noqa: PLR0913 - one for each of its duties
        self,
        redis: Redis,
        scripts: Scripts,
        governor: Governor,
        registry: InFlight,
        emit: Emit,
        *,
        cancellation: Cancellation,
        delivery: Delivery,
    ) -> None:
        """Take the connections, the governor, the flights whose leases are kept, the webhooks."""
        self._delivery = delivery
        self._redis = redis
        self._scripts = scripts
        self._governor = governor
        self._registry = registry
        self._cancellation = cancellation
        self._emit = emit

    async def run(self, *, worker: str, lease_s: float) -> None:
        """Keep everything until cancelled."""
        await asyncio.gather(
            self._renew(lease_s),
            self._listen(),
            self._govern(worker),
            self._sweep(),
            self._delivery.run(),
        )

    async def _renew(self, lease_s: float) -> None:
        """Prolong every lease three times a lease; drop what others have taken over."""
        while True:
            await asyncio.sleep(lease_s / 3)
            leases = self._registry.leases
            held = {lease.id: lease for lease in leases}
            for job_id in await self._scripts.renew(leases):
                if self._registry.holds(job_id, held[job_id].token):
                    self._emit(LeaseLost(job_id=job_id))
                    self._registry.cut_off(job_id, "lost")
                    self._registry.forget([held[job_id]])

    async def _listen(self) -> None:
        """Note when a producer publishes; a lost connection is made again, looks go on anyway."""
        while True:
            with contextlib.suppress(exceptions.RedisError, OSError):
                async with self._redis.pubsub() as channel:
                    await channel.subscribe(keys.WAKE)
                    async for _ in channel.listen():
                        self._registry.room.set()
            await asyncio.sleep(LISTEN_AGAIN_S)

    async def _govern(self, worker: str) -> None:
        """Run the law, if this worker is the governor, and say that this worker lives."""
        last_beat = 0.0
        while True:
            governs = await self._scripts.persist(self._governor.tick)
            if time.monotonic() - last_beat > HEALTH_S:
                last_beat = time.monotonic()
                await self._scripts.persist(lambda: self._beat(worker))
            await asyncio.sleep(TICK_S if governs else STAND_BY_S)

    async def _sweep(self) -> None:
        """Go on looking after what nobody claims; the fleet shares the work."""
        while True:
            for batch in await self._scripts.sweep():
                with contextlib.suppress(QueueUnavailableError, StoreUnavailableError):
                    rows = await self._cancellation.run(batch)  # what fails comes again
                    if rows:
                        self._emit(JobsCancelled(batch=batch, rows=rows))
            await asyncio.sleep(SWEEP_S)

    async def _beat(self, worker: str) -> None:
        said = f"{int(time.time())} running={self._registry.running} held={len(self._registry)}"
        await self._redis.execute_command("HSET", keys.WORKERS, worker, said)
