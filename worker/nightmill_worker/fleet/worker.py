"""FleetWorker: arq's Worker with our claim, lease, finish and lifecycle.

arq keeps its constructor, the key format and the Job API; what is overridden here is listed in
docs/adr/0002-fleet-worker.md, with a test that fails when arq changes any of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from typing import TYPE_CHECKING, Any, Final, TypeVar

from arq import func
from arq.worker import Worker

from nightmill.enqueue.prepare import defaults_of
from nightmill.errors import StoreUnavailableError
from nightmill.maintenance.cancellation import Cancellation
from nightmill.queue import keys, wire
from nightmill_worker.attachments.loader import Attachments
from nightmill_worker.completion.committer import Committer, Ending
from nightmill_worker.completion.settler import Settler
from nightmill_worker.completion.spool import Spool
from nightmill_worker.events import AccountStopped, Events, WorkerStarted, WorkerStopped
from nightmill_worker.fleet.background import Background
from nightmill_worker.fleet.tasks import end_tasks
from nightmill_worker.jobs.claimed_job import ClaimedJob
from nightmill_worker.jobs.decision import Concluder, Conclusion
from nightmill_worker.jobs.executor import Executor
from nightmill_worker.jobs.in_flight import InFlight
from nightmill_worker.limiter.account import fingerprint
from nightmill_worker.limiter.governor import Governor, caps_of, first_orders
from nightmill_worker.queue.scripts import Ask, Scripts
from nightmill_worker.webhooks.delivery import Delivery

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from signal import Signals

    from redis.asyncio import Redis

    from nightmill.settings import Settings
    from nightmill.store import ResultStore
    from nightmill_worker.messages.client import MessagesClient
    from nightmill_worker.queue.scripts import Grant

T = TypeVar("T")

LARGEST_CLAIM: Final = 200
CLAIM_GAP_S: Final = 0.025
"""Between two claims of a busy worker at least, seconds; a lane's buckets hold twice that."""
LOOK_S: Final = 0.25
"""An idle worker looks this often, should a wake be lost; seconds."""
STORE_AGAIN_S: Final = 1.0
LAST_WORDS_S: Final = 1.0
"""At shutdown, for telling Redis and the store what became of the last calls; seconds."""


async def generate(ctx: dict[Any, Any], **job: object) -> None:
    """Stand for the one function of the queue; FleetWorker runs its jobs itself."""


class FleetWorker(Worker):
    """One worker process: claims what its lanes grant, calls, stores, finishes."""

    def __init__(  # noqa: PLR0913 - three connections, and three options by keyword
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
        self.name = uuid.uuid4().hex[:12]
        self.account = fingerprint(settings)
        self.registry = InFlight(self._cut_off)
        self._settings, self._redis, self._store = settings, redis, store
        self._emit = (events or Events()).emit
        self._defaults = defaults_of(settings)
        lease_ms = int(settings.lease_s * 1000)
        caps = caps_of(settings)
        self._scripts = Scripts(
            redis,
            account=self.account,
            orders=first_orders(caps),
            lease_ms=lease_ms,
            canary=settings.canary,
            emit=self._emit,
        )
        spool = Spool(settings.data_dir / "spool", self.name)
        self._committer = Committer(store, self._scripts, spool, self._emit, self.registry.forget)
        chance = rng or random.Random()  # noqa: S311 - jitter, no secret
        self._concluder = Concluder(settings, self._emit, chance, self.registry.alone_in_lane)
        self._settler = Settler(
            self._scripts, self._committer, self.registry, self._concluder, self._emit
        )
        self._executor = Executor(client, Attachments(settings), self._concluder, self._settler.put)
        governor = Governor(redis, account=self.account, worker=self.name, caps=caps, rng=chance)
        cancellation = Cancellation(redis, store, settings)
        delivery = Delivery(settings, redis, self._emit, chance)
        self._background = Background(
            redis,
            self._scripts,
            governor,
            self.registry,
            self._emit,
            cancellation=cancellation,
            delivery=delivery,
        )
        self._stopping, self._at_once = asyncio.Event(), asyncio.Event()
        self._lonely: ClaimedJob | None = None
        self._account_stopped = False
        self._seq = 0

    def __repr__(self) -> str:
        """Say what is under way."""
        return (
            f"<FleetWorker {self.name} running={self.registry.running} held={len(self.registry)}>"
        )

    async def main(self) -> None:
        """Claim and run jobs until `stop`; returns when all is finished or given back."""
        self._emit(WorkerStarted(worker=self.name))
        keeping = asyncio.create_task(
            self._background.run(worker=self.name, lease_s=self._settings.lease_s)
        )
        carrying = asyncio.create_task(self._settler.run())
        claiming = asyncio.create_task(self._claim_until_stopped())
        stopping = asyncio.create_task(self._stopping.wait())
        tasks: set[asyncio.Task[Any]] = {keeping, carrying, claiming, stopping}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in (keeping, carrying):
                if task.done():  # only a defect ends it while claims go on
                    await task
            given_back = await self._drain(claiming)
            self._settler.close()
            await self._say_last_words(carrying)
        finally:
            await end_tasks(*tasks)
        self._emit(WorkerStopped(worker=self.name, given_back=given_back))

    async def _say_last_words(self, carrying: asyncio.Task[None]) -> None:
        """Wait until Redis and the store know all; without Redis the leases just run out."""
        try:
            async with asyncio.timeout(None if self.burst else LAST_WORDS_S):
                await asyncio.shield(carrying)
                await self._scripts.command("HDEL", keys.WORKERS, self.name)
        except TimeoutError:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS_S):
                    await self._committer.leave_behind()

    def stop(self, *, at_once: bool = False) -> None:
        """Claim nothing more; calls under way may finish within the grace period, or not."""
        self._stopping.set()
        if at_once:
            self._at_once.set()
        self.registry.room.set()

    def handle_sig(self, signum: Signals) -> None:
        """Stop gracefully at the first signal and at once at the second."""
        del signum
        self.stop(at_once=self._stopping.is_set())

    async def close(self) -> None:
        """Do nothing: the caller owns the connections (arq's own would close them)."""

    async def _drain(self, claiming: asyncio.Task[None]) -> int:
        """Let calls finish within the grace period, then give the rest back; returns how many."""
        hurry = asyncio.create_task(self._at_once.wait())
        deadline = asyncio.get_running_loop().time() + self._settings.grace_s
        with contextlib.suppress(TimeoutError):  # the last claim, unless Redis or store are away
            async with asyncio.timeout(LAST_WORDS_S):
                await claiming
        while (tasks := self.registry.tasks()) and not hurry.done():
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            await asyncio.wait({hurry, *tasks}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        given_back = self.registry.cut_off_all()
        await asyncio.gather(*self.registry.tasks(), return_exceptions=True)
        return given_back

    async def _claim_until_stopped(self) -> None:
        while not self._stopping.is_set():
            self.registry.raise_crash()
            self.registry.room.clear()
            want = self._wanted()
            grant = await self._scripts.claim(self._ask(want))
            self._seq += 1
            await self._take_off(grant)
            for job_id in grant.aborts:
                self.registry.cut_off(job_id, "abort")
            self._watch_account(grant.account)
            idle = not grant.jobs and not len(self.registry)
            if self.burst and idle and await self._nothing_queued():
                return
            await self._rest(grant, want)

    def _wanted(self) -> int:
        """Return how many jobs to ask for now: free slots, unless answers pile up unstored."""
        busy = self._lonely is not None or self._committer.away
        if busy or len(self.registry) > 2 * self.max_jobs:
            return 0
        return min(self.max_jobs - self.registry.running, LARGEST_CLAIM)

    def _ask(self, want: int) -> Ask:
        s = self._settings
        return Ask(
            worker=self.name,
            seq=self._seq,
            account=self.account,
            want=want,
            lease_ms=int(s.lease_s * 1000),
            functions={wire.FUNCTION: True},
            model=s.model,
            only=s.only_batch,
        )

    async def _take_off(self, grant: Grant) -> None:
        """Start what was granted, except what is stored already."""
        if not grant.jobs:
            return
        new = [claimed for claimed in grant.jobs if not self.registry.adopt(claimed)]
        flights = [ClaimedJob(claimed, self.name, self.account, self._defaults) for claimed in new]
        ids = [claimed.id for claimed in new]
        try:
            await self.registry.let_go(ids)
            for flight in flights:
                self.registry.hold(flight)
            stored = await self._lookup(ids)
        except asyncio.CancelledError:
            for flight in flights:
                self._executor.cut_off(flight)
            raise
        for flight in flights:
            if stored.get(flight.claimed.id, -1) >= flight.job.run:
                await self._finish_again(flight)
            elif flight.claimed.verdict != "alone":
                self.registry.start(flight, self._executor.run(flight))
            elif self._lonely is None:
                self._lonely = flight
            else:
                self._settler.put(self._concluder.not_now(flight))
        if self._lonely in flights:  # once all others are known: it waits for their calls
            self.registry.start(self._lonely, self._run_alone(self._lonely))

    async def _lookup(self, ids: Sequence[str]) -> dict[str, int]:
        """Return job_id -> stored run; waits for a store that is away (leases are renewed)."""
        stored = await self._ask_store(lambda: self._store.lookup(ids))
        return {job_id: found.run for job_id, found in stored.items()}

    async def _ask_store(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await call()
            except StoreUnavailableError:
                await asyncio.sleep(STORE_AGAIN_S)

    async def _finish_again(self, flight: ClaimedJob) -> None:
        """Finish a job whose row was committed before: it is not paid for twice."""
        row = await self._ask_store(lambda: self._store.get(flight.claimed.id))
        if row is None:  # pruned between the two looks
            self.registry.start(flight, self._executor.run(flight))
            return
        ending = Ending(row=None, finish=flight.finish(row, again=True))
        self._settler.put(Conclusion(settlement=flight.settlement("unsent"), ending=ending))

    async def _run_alone(self, flight: ClaimedJob) -> None:
        """Run a job that two workers died under, with nothing else in this process."""
        while others := self.registry.tasks(but=(flight,)):
            await asyncio.wait(others)
        await self._scripts.mark_alone(flight.claimed.id)
        await self._executor.run(flight)
        self._lonely = None

    def _cut_off(self, flight: ClaimedJob) -> None:
        if flight is self._lonely:
            self._lonely = None
        self._executor.cut_off(flight)

    async def _rest(self, grant: Grant, want: int) -> None:
        """Wait for a reason to claim again: settled answers, a wake, the lane, or LOOK_S."""
        if len(grant.jobs) == LARGEST_CLAIM:
            return
        claimed_at = self.loop.time()
        pause = min(grant.wait_ms / 1000, LOOK_S) if want else LOOK_S
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self.registry.room.wait()
        left = claimed_at + CLAIM_GAP_S - self.loop.time()
        if self.registry.running and left > 0:
            await asyncio.sleep(left)

    def _watch_account(self, account: dict[str, str]) -> None:
        stopped = account.get("state") == "stopped"
        if stopped and not self._account_stopped:
            self._emit(AccountStopped(reason=account.get("reason", "")))
        self._account_stopped = stopped

    async def _nothing_queued(self) -> bool:
        active = await self._scripts.command("SMEMBERS", keys.QUEUES)
        for queue in (keys.QUEUE, *active):
            if await self._scripts.command("ZCARD", queue):
                return False
        return True
