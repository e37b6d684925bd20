"""What runs beside the claims: leases, wakes, the governor, the sweep, webhooks.

Each loop goes on for ever: what raises in it is reported, and it goes on after a wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING, Final

from msgspec import json, structs
from redis import exceptions

from nightmill.errors import QueueUnavailableError, StoreUnavailableError
from nightmill.queue import keys
from nightmill.queue.crashes import note_trouble
from nightmill.queue.live_workers import BEAT_S
from nightmill.queue.patience import waits
from nightmill_worker.events import JobsCancelled, LeaseLost, failed_loop
from nightmill_worker.fleet import batch_notes
from nightmill_worker.fleet.facts import memory
from nightmill_worker.group_events import WorkerProgress
from nightmill_worker.limiter.governor import STAND_BY_S, TICK_S, Governor
from nightmill_worker.queue.scripts import RedisUnusableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from redis.asyncio import Redis

    from nightmill.maintenance.cancellation import Cancellation
    from nightmill.queue.live_workers import Facts
    from nightmill_worker.completion.restorer import Restorer
    from nightmill_worker.events import Emit
    from nightmill_worker.fleet.batch_notes import BatchNotes
    from nightmill_worker.fleet.dead_workers import DeadWorkers
    from nightmill_worker.fleet.history import HistoryKeeper
    from nightmill_worker.fleet.message_batches import KeptBatches
    from nightmill_worker.jobs.in_flight import InFlight
    from nightmill_worker.queue.scripts import Scripts
    from nightmill_worker.webhooks.delivery import Delivery

LOOK_S: Final = 1.0
"""Between two looks whether a worker's troubles have changed, seconds."""
LISTEN_AGAIN_S: Final = 1.0
LISTEN_S: Final = 10.0
"""Longest wait for one message of the channel, seconds."""
SWEEP_S: Final = 0.5
SPARE_SWEEP_S: Final = 2.4
"""Between two sweeps of a worker that is idle, or that is not the governor, seconds."""
IDLE_S: Final = 1.0
"""Between two looks at lanes without calls, seconds. The governor's lock lives longer."""
IDLE_STAND_BY_S: Final = 2.5
"""Between two looks of an idle worker whether the governor still lives, seconds."""
BUSY_S: Final = 2.0
"""So long after a wake a worker is not idle, seconds: others may have the jobs."""
SPOOL_S: Final = 0.5
"""Between two looks whether the answers of a dead worker are stored, seconds."""
PROGRESS_S: Final = 60.0
"""Between two lines of progress in the log, seconds."""
AGAIN_S: Final = (0.5, 10.0)
"""First and longest wait of a loop that raised, seconds."""


class Background:
    """The background loops of one worker process."""

    def __init__(  # noqa: PLR0913 - one for each of its loops
        self,
        redis: Redis,
        scripts: Scripts,
        governor: Governor,
        registry: InFlight,
        emit: Emit,
        *,
        cancellation: Cancellation,
        delivery: Delivery,
        restorer: Restorer,
        notes: BatchNotes,
        kept: KeptBatches,
        dead: DeadWorkers | None,
        history: HistoryKeeper | None,
        check_store: Callable[[], Awaitable[None]],
        trouble: Callable[[], str],
    ) -> None:
        """Take the connections, what the loops work on, and what shows the worker's troubles."""
        self._redis = redis
        self._scripts = scripts
        self._governor = governor
        self._registry = registry
        self._emit = emit
        self._cancellation = cancellation
        self._delivery = delivery
        self._restorer = restorer
        self._notes = notes
        self._kept = kept
        self._dead = dead
        self._history = history
        self._check_store = check_store
        self._trouble = trouble
        self._noted = ""
        self._last_beat = 0.0
        self._governs = False
        self._swept_at = -SPARE_SWEEP_S
        self._ending = asyncio.Event()
        self._woken = asyncio.Event()
        self._woken_at = time.monotonic()
        self.may_write = asyncio.Event()
        """Set when the store is the one in use with this Redis; until then nothing is swept."""

    async def run(
        self, *, worker: str, lease_s: float, about: str, account: tuple[str, str], facts: Facts
    ) -> None:
        """Run all loops until cancelled. `about` goes with each sign of life, see live_workers.

        `account` is the account and the host of its endpoint; `facts` are without the memory.
        """
        await asyncio.gather(
            self._repeat("renew", self._renew, lease_s / 3),
            self._repeat("listen", self._listen, LISTEN_AGAIN_S),
            self._repeat("govern", self._govern, 0),
            self._repeat("beat", partial(self._beat, worker, about, account, facts), LOOK_S),
            self._repeat("sweep", self._sweep, 0),
            self._repeat("dead", self._release_dead, SPOOL_S),
            self._repeat("note", self._note, batch_notes.EVERY_S),
            self._repeat("keep", self._keep, 0),
            self._repeat("deliver", self._delivery.run, 0),
            self._repeat("history", self._keep_history, 0),
            self._repeat("progress", partial(self._progress, worker), 0),
        )

    def end(self) -> None:
        """Let no loop begin anew, nor report what its cancellation breaks; cancel `run` then."""
        self._ending.set()

    async def _repeat(self, loop: str, once: Callable[[], Awaitable[None]], every_s: float) -> None:
        """Call `once` for ever, with `every_s` seconds between; an exception is reported."""
        pauses = waits(*AGAIN_S)
        while not self._ending.is_set():
            try:
                await once()
                pauses, pause_s = waits(*AGAIN_S), every_s
            except RedisUnusableError:
                raise
            except Exception as error:  # noqa: BLE001 - a loop that ends would end the worker
                if self._ending.is_set():
                    return
                pause_s = next(pauses)
                self._emit(failed_loop(loop, error, pause_s))
            await asyncio.sleep(pause_s)

    async def _renew(self) -> None:
        """Prolong every lease; drop the jobs that others have taken over.

        Jobs that Redis has lost are put back.
        """
        leases = self._registry.leases
        held = {lease.id: lease for lease in leases}
        late = await self._scripts.renew(leases)
        over = await self._restorer.restore(late.gone) if late.gone else set()
        for job_id in late.lost | over:
            if job_id in held and self._registry.holds(job_id, held[job_id].token):
                for claimed in self._registry.held([job_id]):
                    self._emit(LeaseLost(**claimed.facts))
                self._registry.cut_off(job_id, "lost")
                self._registry.forget([held[job_id]])

    async def _listen(self) -> None:
        """Claim when a producer publishes; a lost connection is made again, looks go on anyway."""
        with contextlib.suppress(exceptions.RedisError, OSError):
            async with self._redis.pubsub() as channel:
                await channel.subscribe(keys.WAKE)
                self._wake()  # a wake of before was lost
                while True:
                    if await channel.get_message(ignore_subscribe_messages=True, timeout=LISTEN_S):
                        self._wake()

    def _wake(self) -> None:
        """Let this worker claim, and its loops run as often as those of a busy one."""
        self._registry.room.set()
        self._woken.set()
        self._woken_at = time.monotonic()

    async def _govern(self) -> None:
        """Run the law once, if this worker is the governor."""
        self._governs = await self._scripts.persist(self._governor.tick)
        if not self._governs:
            await self._pause(STAND_BY_S, IDLE_STAND_BY_S)
        else:
            await self._pause(TICK_S, IDLE_S if self._governor.idle else TICK_S)

    @property
    def _idle(self) -> bool:
        """Whether this worker has no job, and no wake came lately."""
        return not len(self._registry) and time.monotonic() - self._woken_at > BUSY_S

    async def _pause(self, busy_s: float, idle_s: float) -> None:
        """Wait `busy_s` seconds; while this worker is idle `idle_s`, or until a wake."""
        if not self._idle:
            await asyncio.sleep(busy_s)
            return
        self._woken.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(idle_s):
                await self._woken.wait()

    async def _sweep(self) -> None:
        """Sweep the queues and write the rows of ended batches; the fleet shares the work."""
        await self.may_write.wait()
        await self._pause(SWEEP_S, SPARE_SWEEP_S)
        if not self._governs and time.monotonic() - self._swept_at < SPARE_SWEEP_S:
            return
        self._swept_at = time.monotonic()
        for batch in await self._scripts.sweep():
            with contextlib.suppress(QueueUnavailableError, StoreUnavailableError):
                rows = await self._cancel(batch)  # what fails comes again with the next sweep
                if rows:
                    self._emit(JobsCancelled(batch=batch, rows=rows))

    async def _release_dead(self) -> None:
        """Once, after the start: release the leases of workers that have ended."""
        await self.may_write.wait()
        if self._dead is None or await self._dead.release():
            await asyncio.Event().wait()  # for the rest of the run: an idle worker wakes less

    async def _note(self) -> None:
        """Note the batches in the store; what fails comes again."""
        await self.may_write.wait()
        if self._governs or not self._notes.began:  # one worker of the fleet is enough
            with contextlib.suppress(QueueUnavailableError, StoreUnavailableError):
                await self._notes.run()

    async def _keep(self) -> None:
        """Look after the Message Batches; one worker of the fleet is enough."""
        await self.may_write.wait()
        await asyncio.sleep(self._kept.pause_s)
        if self._governs:
            await self._kept.look()

    async def close(self) -> None:
        """End what the loops have started and not waited for; call it after `run` has ended."""
        await self._kept.close()

    async def _progress(self, worker: str) -> None:
        """Tell once a minute what this worker has."""
        await asyncio.sleep(PROGRESS_S)
        registry = self._registry
        event = WorkerProgress(worker=worker, running=registry.running, held=len(registry))
        self._emit(event)

    async def _keep_history(self) -> None:
        """Write the history's points of this step, if this worker is the governor.

        Points that Redis does not take are missing: a gap is better than a call that waits.
        """
        if self._history is None:
            await asyncio.Event().wait()
            return
        await asyncio.sleep(self._history.wait_s)
        if self._governs:
            with contextlib.suppress(QueueUnavailableError, exceptions.RedisError, OSError):
                await self._history.keep()

    async def _send(self, commands: Sequence[Sequence[str | bytes | int]]) -> None:
        """Send commands in one round trip."""
        async with self._redis.pipeline(transaction=False) as pipe:
            for words in commands:
                pipe.execute_command(*words)
            for each in await pipe.execute(raise_on_error=False):
                if isinstance(each, Exception):
                    raise each  # its text is the server's, without the command

    async def _cancel(self, batch: str) -> int:
        """Write the rows of one ended batch; its bad value must not keep others from ending."""
        try:
            return await self._cancellation.run(batch)
        except (QueueUnavailableError, StoreUnavailableError):
            raise
        except Exception as error:  # noqa: BLE001 - the other batches go on
            self._emit(failed_loop(f"cancel {batch}", error, SWEEP_S))
            return 0

    async def _beat(self, worker: str, about: str, account: tuple[str, str], facts: Facts) -> None:
        """Report that this worker lives, now and then, and its troubles as soon as they change."""
        trouble = self._trouble()
        if trouble == self._noted and time.monotonic() - self._last_beat < BEAT_S:
            return
        self._last_beat = time.monotonic()
        await self._check_store()
        seconds, _ = await self._scripts.command("TIME")
        jobs = f"running={self._registry.running} held={len(self._registry)}"
        encoded = json.encode(structs.replace(facts, memory=memory()))
        sign = (
            ("HSET", keys.WORKERS, worker, f"{seconds} {jobs}{about}"),
            ("HSET", keys.ACCOUNTS, *account),
            ("SET", keys.WORKER + worker, encoded, "PX", keys.WORKER_TTL_MS),
        )
        await self._scripts.persist(partial(self._send, sign))
        if trouble or self._noted:
            await self._scripts.persist(lambda: note_trouble(self._redis, worker, trouble))
            self._noted = trouble
