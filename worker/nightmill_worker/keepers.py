"""What runs beside the claims: renewing leases, hearing wakes, governing lanes, webhooks."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from redis import exceptions

from nightmill import keys
from nightmill.errors import QueueUnavailableError, StoreUnavailableError
from nightmill_worker.events import JobsWithdrawn, LeaseLost
from nightmill_worker.lane.governor import STAND_BY_S, TICK_S, Governor

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from nightmill.withdraw import Withdrawal
    from nightmill_worker.engine import Engine
    from nightmill_worker.events import Emit
    from nightmill_worker.roster import Roster
    from nightmill_worker.webhook import Courier

HEALTH_S: Final = 5.0
LISTEN_AGAIN_S: Final = 1.0
SWEEP_S: Final = 0.5


class Keepers:
    """The standing duties of one worker process."""

    def __init__(  # noqa: PLR0913 - one for each of its duties
        self,
        redis: Redis,
        engine: Engine,
        governor: Governor,
        roster: Roster,
        emit: Emit,
        *,
        withdrawal: Withdrawal,
        courier: Courier,
    ) -> None:
        """Take the connections, the governor, the flights whose leases are kept, the webhooks."""
        self._courier = courier
        self._redis = redis
        self._engine = engine
        self._governor = governor
        self._roster = roster
        self._withdrawal = withdrawal
        self._emit = emit

    async def run(self, *, worker: str, lease_s: float) -> None:
        """Keep everything until cancelled."""
        await asyncio.gather(
            self._renew(lease_s),
            self._listen(),
            self._govern(worker),
            self._sweep(),
            self._courier.run(),
        )

    async def _renew(self, lease_s: float) -> None:
        """Prolong every lease three times a lease; drop what others have taken over."""
        while True:
            await asyncio.sleep(lease_s / 3)
            leases = self._roster.leases
            held = {lease.id: lease for lease in leases}
            for job_id in await self._engine.renew(leases):
                if self._roster.holds(job_id, held[job_id].token):
                    self._emit(LeaseLost(job_id=job_id))
                    self._roster.cut_off(job_id, "lost")
                    self._roster.forget([held[job_id]])

    async def _listen(self) -> None:
        """Note when a producer publishes; a lost connection is made again, looks go on anyway."""
        while True:
            with contextlib.suppress(exceptions.RedisError, OSError):
                async with self._redis.pubsub() as channel:
                    await channel.subscribe(keys.WAKE)
                    async for _ in channel.listen():
                        self._roster.room.set()
            await asyncio.sleep(LISTEN_AGAIN_S)

    async def _govern(self, worker: str) -> None:
        """Run the law, if this worker is the governor, and say that this worker lives."""
        last_beat = 0.0
        while True:
            governs = await self._engine.persist(self._governor.tick)
            if time.monotonic() - last_beat > HEALTH_S:
                last_beat = time.monotonic()
                await self._engine.persist(lambda: self._beat(worker))
            await asyncio.sleep(TICK_S if governs else STAND_BY_S)

    async def _sweep(self) -> None:
        """Go on looking after what nobody claims; the fleet shares the work."""
        while True:
            for batch in await self._engine.sweep():
                with contextlib.suppress(QueueUnavailableError, StoreUnavailableError):
                    rows = await self._withdrawal.run(batch)  # what fails comes again
                    if rows:
                        self._emit(JobsWithdrawn(batch=batch, rows=rows))
            await asyncio.sleep(SWEEP_S)

    async def _beat(self, worker: str) -> None:
        said = f"{int(time.time())} running={self._roster.running} held={len(self._roster)}"
        await self._redis.execute_command("HSET", keys.WORKERS, worker, said)
