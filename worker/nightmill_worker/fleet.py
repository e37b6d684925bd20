"""FleetWorker: arq's Worker with our claim, lease, finish and lifecycle.

arq keeps its settings and constructor, the key format and the Job API; what is overridden here is
listed in docs/adr/0002, with a test that fails when arq changes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

from arq import func
from arq.worker import Worker

from nightmill import keys, wire
from nightmill.errors import StoreUnavailableError
from nightmill.intake import defaults_of
from nightmill.state import JobState
from nightmill_worker.batcher import Batcher
from nightmill_worker.engine import Ask, Engine, Release
from nightmill_worker.events import (
    Events,
    FinishRefused,
    LeaseLost,
    LineStopped,
    WorkerStarted,
    WorkerStopped,
)
from nightmill_worker.executor import Executor
from nightmill_worker.flight import Flight
from nightmill_worker.lane.governor import TICK_S, Governor
from nightmill_worker.line import fingerprint
from nightmill_worker.sink import Ending, Sink

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from signal import Signals

    from redis.asyncio import Redis

    from nightmill.settings import Settings
    from nightmill.store import ResultStore
    from nightmill_worker.engine import Claimed, Grant, Settlement
    from nightmill_worker.messages.client import MessagesClient

LARGEST_CLAIM: Final = 200
CLAIM_GAP_S: Final = 0.01
"""Between two claims at least, so that a busy worker takes many jobs a call; seconds."""
LOOK_S: Final = 0.25
"""An idle worker looks this often, should a wake be lost; seconds."""
SETTLE_S: Final = 0.005
HEALTH_S: Final = 5.0


async def generate(ctx: dict[Any, Any], **job: object) -> None:
    """Stand for the one function of the queue; FleetWorker runs its jobs itself."""


class FleetWorker(Worker):
    """One worker process: claims what its lanes grant, calls, stores, finishes."""

    def __init__(
        self,
        settings: Settings,
        redis: Redis,
        store: ResultStore,
        client: MessagesClient,
        *,
        events: Events | None = None,
        rng: random.Random | None = None,
        burst: bool = False,
    ) -> None:
        """Take open connections; whoever opened them closes them after `main` returned.

        With `burst`, `main` returns when nothing is queued and nothing in flight.
        """
        super().__init__(
            functions=[func(generate, name=wire.FUNCTION)],
            queue_name=keys.QUEUE,
            max_jobs=settings.max_in_flight,
            handle_signals=False,
            allow_abort_jobs=True,
            job_serializer=wire.dump,
            job_deserializer=wire.load,
            burst=burst,
        )
        self.settings = settings
        self.name = f"{uuid.uuid4().hex[:12]}"
        self.line = fingerprint(settings)
        self.flights: dict[str, Flight] = {}
        self.running = 0
        self._redis, self._store = redis, store
        self._emit = (events or Events()).emit
        self._defaults = defaults_of(settings)
        lease_ms = int(settings.lease_s * 1000)
        self.engine = Engine(redis, line=self.line, lease_ms=lease_ms, emit=self._emit)
        self.sink = Sink(store, self.engine, self._emit, self._forget)
        self._executor = Executor(client, settings, self, self._emit, rng or random.Random())  # noqa: S311 - jitter
        self._governor = Governor(redis, line=self.line, worker=self.name)
        self._settlements = Batcher(self._send_settlements, linger_s=SETTLE_S, limit=500)
        self._releases = Batcher(self._send_releases, linger_s=SETTLE_S, limit=500)
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._at_once = asyncio.Event()
        self._seq = 0
        self._alone: Flight | None = None
        self._line_stopped = False

    def __repr__(self) -> str:
        """Say what is under way."""
        return f"<FleetWorker {self.name} running={self.running} held={len(self.flights)}>"

    # Lifecycle

    async def main(self) -> None:
        """Claim and run jobs until `stop`; returns when all is finished or given back."""
        self._emit(WorkerStarted(worker=self.name))
        keepers: list[Coroutine[Any, Any, None]] = [
            self._renew_leases(),
            self._listen_for_wakes(),
            self._govern(),
        ]
        carriers = [self._settlements.run(), self._releases.run(), self.sink.run()]
        async with asyncio.TaskGroup() as group:
            kept = [group.create_task(keeper) for keeper in keepers]
            carrying = [group.create_task(carrier) for carrier in carriers]
            await self._claim_until_stopped()
            given_back = await self._drain()
            for outlet in (self._settlements, self._releases, self.sink):
                outlet.close()
            await asyncio.gather(*carrying)
            for task in kept:
                task.cancel()
        await self._redis.hdel(keys.WORKERS, self.name)
        done = self.jobs_complete + self.jobs_failed
        self._emit(WorkerStopped(worker=self.name, finished=done, given_back=given_back))

    def stop(self, *, at_once: bool = False) -> None:
        """Claim nothing more; calls under way may finish within the grace period, or not."""
        self._stopping.set()
        if at_once:
            self._at_once.set()
        self._wake.set()

    def handle_sig(self, signum: Signals) -> None:
        """Stop gracefully at the first signal and at once at the second."""
        self.stop(at_once=self._stopping.is_set())

    async def close(self) -> None:
        """Do nothing: the caller owns the connections (arq's own would close them)."""

    async def _drain(self) -> int:
        """Let calls finish within the grace period, then give the rest back; returns how many."""
        tasks = [flight.task for flight in self.flights.values() if flight.task]
        at_once = asyncio.create_task(self._at_once.wait())
        everything = asyncio.gather(*tasks)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.grace_s):
                await asyncio.wait({at_once, everything}, return_when=asyncio.FIRST_COMPLETED)
        at_once.cancel()
        left = [flight for flight in self.flights.values() if flight.task and not flight.task.done()]
        for flight in left:
            self._cut_off(flight, "shutdown")
        await asyncio.gather(*tasks)
        return len(left)

    # Claiming

    async def _claim_until_stopped(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            want = self._wanted()
            grant = await self.engine.claim(self._ask(want))
            self._seq += 1
            await self._take_off(grant)
            self._abort(grant.aborts)
            self._watch_line(grant.line)
            if self.burst and not grant.jobs and not self.flights and await self._nothing_queued():
                return
            await self._rest(grant, want)

    def _wanted(self) -> int:
        """Return how many jobs to ask for now: free slots, unless answers pile up unstored."""
        if self._alone or self.sink.away or len(self.flights) > 2 * self.max_jobs:
            return 0
        return min(self.max_jobs - self.running, LARGEST_CLAIM)

    def _ask(self, want: int) -> Ask:
        s = self.settings
        caps = {"rpm": s.rpm, "itpm": s.itpm, "otpm": s.otpm, "window": s.fleet_max_in_flight}
        return Ask(
            worker=self.name,
            seq=self._seq,
            line=self.line,
            want=want,
            lease_ms=int(s.lease_s * 1000),
            functions={wire.FUNCTION: True},
            model=s.model,
            spread=1.0,
            caps={name: cap for name, cap in caps.items() if cap is not None},
            guess={"ratio": 0.25, "output": 200.0, "window": 16.0},
        )

    async def _take_off(self, grant: Grant) -> None:
        """Start what was granted, except what is stored already."""
        if not grant.jobs:
            return
        flights = [Flight(claimed, self.name, self._defaults) for claimed in grant.jobs]
        for flight in flights:
            self.flights[flight.claimed.id] = flight
        stored = await self._lookup([flight.claimed.id for flight in flights])
        for flight in flights:
            found = stored.get(flight.claimed.id)
            if found is not None and found >= flight.job.run:
                await self._finish_again(flight)
            elif flight.claimed.verdict == "alone":
                self._alone = flight
                flight.task = self.loop.create_task(self._run_alone(flight))
            else:
                self._start(flight)

    async def _lookup(self, ids: Sequence[str]) -> dict[str, int]:
        """Return job_id -> stored run; waits for a store that is away (leases are renewed)."""
        while True:
            try:
                return {i: found.run for i, found in (await self._store.lookup(ids)).items()}
            except StoreUnavailableError:
                await asyncio.sleep(1)

    async def _finish_again(self, flight: Flight) -> None:
        """Finish a job whose row was committed before: it is not paid for twice."""
        row = await self._store.get(flight.claimed.id)
        self.settle(flight.settlement("unsent"))
        if row is None:  # pruned between the two looks: run it
            self._start(flight)
        else:
            finish = flight.finish(row, again=True)
            self.sink.put(Ending(row=None, finish=finish))

    def _start(self, flight: Flight) -> None:
        self.running += 1
        flight.task = self.loop.create_task(self._executor.run(flight))
        flight.task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self.running -= 1
        self._wake.set()
        if not task.cancelled() and task.exception() is not None:
            task.get_loop().call_exception_handler(
                {"message": "a flight crashed; its lease will run out", "exception": task.exception()}
            )

    async def _run_alone(self, flight: Flight) -> None:
        """Run a job that two workers died under, with nothing else in this process."""
        others = [f.task for f in self.flights.values() if f.task and f is not flight]
        await asyncio.gather(*others, return_exceptions=True)
        await self.engine.mark_alone(flight.claimed.id)
        await self._executor.run(flight)
        self._alone = None
        self._wake.set()

    async def _rest(self, grant: Grant, want: int) -> None:
        """Wait for a reason to claim again: a finished call, a wake, the lane, or LOOK_S."""
        pause = min(grant.wait_ms / 1000, LOOK_S) if want else LOOK_S
        if len(grant.jobs) == LARGEST_CLAIM:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(pause, CLAIM_GAP_S)):
                await self._wake.wait()
        if self.running:
            await asyncio.sleep(CLAIM_GAP_S)

    async def _nothing_queued(self) -> bool:
        queues = [keys.QUEUE, *(q.decode() for q in await self._redis.smembers(keys.QUEUES))]
        return not sum([await self._redis.zcard(queue) for queue in queues])

    # What the executor hands over (Outlets)

    def settle(self, item: Settlement) -> None:
        """Account for an answer, with others of the next few milliseconds."""
        self._settlements.put(item)

    def release(self, item: Release) -> None:
        """Give a job back, with others of the next few milliseconds."""
        self.jobs_retried += 1
        self._releases.put(item)

    def end(self, item: Ending) -> None:
        """Store a row and finish its job, with others of the next group."""
        if item.finish.status == JobState.SUCCEEDED:
            self.jobs_complete += 1
        else:
            self.jobs_failed += 1
        self.sink.put(item)

    def alone_in_lane(self, flight: Flight) -> bool:
        """Tell whether no other flight of this process uses the lane."""
        return not any(
            other.claimed.model == flight.claimed.model
            for other in self.flights.values()
            if other is not flight
        )

    async def _send_settlements(self, items: list[Settlement]) -> None:
        if await self.engine.settle(items):
            self._wake.set()

    async def _send_releases(self, items: list[Release]) -> None:
        late = await self.engine.release(items)
        for item in items:
            self._forget(item.id)
        for job_id in late:
            self._emit(FinishRefused(job_id=job_id))
        self._wake.set()

    def _forget(self, job_id: str) -> None:
        self.flights.pop(job_id, None)
        if not self.flights:
            self._wake.set()

    # Keeping

    async def _renew_leases(self) -> None:
        while True:
            await asyncio.sleep(self.settings.lease_s / 3)
            held = [flight.lease for flight in self.flights.values()]
            for job_id in await self.engine.renew(held) if held else ():
                flight = self.flights.get(job_id)
                if flight is not None:
                    self._emit(LeaseLost(job_id=job_id))
                    self._cut_off(flight, "lost")
                    self._forget(job_id)

    def _cut_off(self, flight: Flight, why: str) -> None:
        flight.ending = why  # type: ignore[assignment]
        if flight.task is not None:
            flight.task.cancel()

    def _abort(self, ids: frozenset[str]) -> None:
        for job_id in ids:
            flight = self.flights.get(job_id)
            if flight is not None and flight.task and not flight.task.done():
                self._cut_off(flight, "abort")

    def _watch_line(self, line: dict[str, str]) -> None:
        stopped = line.get("state") == "stopped"
        if stopped and not self._line_stopped:
            self._emit(LineStopped(reason=line.get("reason", "")))
        self._line_stopped = stopped

    async def _listen_for_wakes(self) -> None:
        """Wake the claim loop when a producer publishes; a lost connection is made again."""
        while True:
            with contextlib.suppress(Exception):  # the next look is LOOK_S away in any case
                async with self._redis.pubsub() as channel:
                    await channel.subscribe(keys.WAKE)
                    async for _ in channel.listen():
                        self._wake.set()
            await asyncio.sleep(1)

    async def _govern(self) -> None:
        last_health = 0.0
        while True:
            await self.engine.persist(self._governor.tick)
            if time.monotonic() - last_health > HEALTH_S:
                last_health = time.monotonic()
                await self.engine.persist(self.heart_beat)
            await asyncio.sleep(TICK_S)

    async def heart_beat(self) -> None:
        """Say that this worker lives: `nightmill:workers`, worker -> epoch seconds and load."""
        said = f"{int(time.time())} running={self.running} held={len(self.flights)}"
        await self._redis.hset(keys.WORKERS, self.name, said)
