"""FleetWorker: arq's Worker with our claim, lease, finish and lifecycle.

arq's constructor, key format and Job API stay. docs/adr/0002-fleet-worker.md lists what is
overridden, and a test fails when arq changes any of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from typing import TYPE_CHECKING, Any, Final, TypeVar

from arq import func
from arq.worker import Worker

from nightmill.client.stored import used_store
from nightmill.errors import StoreMismatchError, StoreUnavailableError
from nightmill.maintenance.cancellation import Cancellation
from nightmill.queue import keys, live_workers, wire
from nightmill.queue.batches import Batches
from nightmill.queue.used_store import UsedStore, differing, note
from nightmill.safety.redaction import Secrets
from nightmill_worker.attachments.loader import Attachments
from nightmill_worker.checks.output_checks import OutputChecks
from nightmill_worker.completion.committer import Committer
from nightmill_worker.completion.releases import Releases
from nightmill_worker.completion.restorer import Restorer
from nightmill_worker.completion.settler import Settler
from nightmill_worker.completion.spool import Spool
from nightmill_worker.events import (
    AnswersUnsaved,
    Events,
    WorkerFailed,
    WorkerStarted,
    WorkerStopped,
)
from nightmill_worker.fleet import dead_workers
from nightmill_worker.fleet.background import Background
from nightmill_worker.fleet.batch_notes import BatchNotes
from nightmill_worker.fleet.claims import STORE_AGAIN_S, Claims
from nightmill_worker.fleet.dead_workers import DeadWorkers
from nightmill_worker.fleet.facts import facts_of
from nightmill_worker.fleet.history import HistoryKeeper
from nightmill_worker.fleet.life_lock import LifeLock
from nightmill_worker.fleet.message_batches import KeptBatches
from nightmill_worker.fleet.troubles import trouble_of
from nightmill_worker.jobs.decision import Decider
from nightmill_worker.jobs.defects import Defects
from nightmill_worker.jobs.executor import Executor
from nightmill_worker.jobs.in_flight import InFlight
from nightmill_worker.jobs.tasks import end_tasks
from nightmill_worker.limiter.account import fingerprint, host_of
from nightmill_worker.limiter.governor import Governor, caps_of, first_orders
from nightmill_worker.queue.scripts import Scripts
from nightmill_worker.webhooks.delivery import Delivery

if TYPE_CHECKING:
    from signal import Signals

    from redis.asyncio import Redis

    from nightmill.settings import Settings
    from nightmill.store import ResultStore
    from nightmill_worker.messages.client import MessagesClient

T = TypeVar("T")

LAST_S: Final = 1.0
"""At shutdown, for Redis and the store to take what became of the last calls; seconds."""


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
        embedded: bool = False,
        burst: bool = False,
    ) -> None:
        """Take open connections, which the caller closes after `main` has returned.

        `embedded`: Redis is the embedded server of DATA_DIR, so all its workers run on this
        machine. With `burst`, `main` returns when nothing is queued and nothing in flight.
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
        self.registry = InFlight(settings.max_in_flight)
        self._settings = settings
        self._redis, self._store = redis, store
        self._used_store: UsedStore | None = None
        self._mismatch: StoreMismatchError | None = None
        self._emit = (events or Events()).emit
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
        locks = settings.data_dir / dead_workers.FOLDER
        self._life = LifeLock(locks, self.name) if embedded else None
        chance = rng or random.Random()  # noqa: S311 - jitter, no secret
        decider = Decider(settings, chance)
        self._defects = defects = Defects(settings.max_attempts)
        self._secrets = Secrets.of(settings)
        restorer = Restorer(
            self._scripts, Batches(redis), store, self.registry, self._emit, worker=self.name
        )
        releases = Releases(self._scripts, self.registry, restorer, self._emit)
        self._committer = Committer(
            store, self._scripts, spool, self._emit, done=self.registry.forget, releases=releases
        )
        self._settler = Settler(
            self._scripts,
            self._committer,
            self.registry,
            decider,
            releases=releases,
            emit=self._emit,
            passed=defects.passed,
        )
        governor = Governor(
            redis,
            account=self.account,
            worker=self.name,
            caps=caps,
            rng=chance,
            emit=self._emit,
        )
        cancellation = Cancellation(redis, store, settings)
        delivery = Delivery(settings, redis, self._emit, chance)
        self._checks = OutputChecks(settings)
        attachments = Attachments(settings, self._emit, store)
        self._background = Background(
            redis,
            self._scripts,
            governor,
            self.registry,
            self._emit,
            cancellation=cancellation,
            delivery=delivery,
            restorer=restorer,
            notes=BatchNotes(Batches(redis), store, self._emit),
            kept=KeptBatches(settings, redis, store, self._emit),
            dead=DeadWorkers(locks, spool, self._scripts, self._emit) if embedded else None,
            history=HistoryKeeper(redis) if settings.history else None,
            check_store=self._check_store,
            trouble=self._trouble,
        )
        self._claims = Claims(
            settings,
            store,
            self._scripts,
            self.registry,
            self._emit,
            worker=self.name,
            account=self.account,
            executor=Executor(client, attachments, decider, self._settler.put, self._checks),
            decider=decider,
            defects=defects,
            settler=self._settler,
            committer=self._committer,
            burst=burst,
        )
        self.registry.subscribe(self._claims.cut_off, self._claims.faulted)
        self._stopping, self._at_once = asyncio.Event(), asyncio.Event()

    def __repr__(self) -> str:
        """Say what is under way."""
        return (
            f"<FleetWorker {self.name} running={self.registry.running} held={len(self.registry)}>"
        )

    @property
    def unsaved(self) -> int:
        """How many answers `main` could put neither in the store nor in the spool."""
        return self._committer.unsaved

    def _trouble(self) -> str:
        """Return on one line what keeps this worker from going on as it should, "" for nothing."""
        parts = (self._committer, self._claims, self._scripts, self._defects)
        return trouble_of(*parts, self._secrets)

    async def main(self) -> None:
        """Claim and run jobs until `stop`; return when all is finished or given back.

        Raises StoreMismatchError when another results store is used with this Redis.
        """
        if self._life:
            self._life.hold()
        self._emit(WorkerStarted(worker=self.name))
        background = asyncio.create_task(
            self._background.run(
                worker=self.name,
                lease_s=self._settings.lease_s,
                about=live_workers.about(self.account, self._settings.only_batch),
                account=(self.account, host_of(self._settings)),
                facts=facts_of(self._settings),
            )
        )
        settling = asyncio.create_task(self._settler.run())
        claiming = asyncio.create_task(self._claim())
        stopping = asyncio.create_task(self._stopping.wait())
        settled = False
        tasks: set[asyncio.Task[Any]] = {background, settling, claiming, stopping}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in (background, settling):
                if task.done():  # only a defect ends it while claims go on
                    await task
            given_back = await self._drain(claiming)
            self._settler.close()
            settled = await self._settle_last(settling)
        except BaseException as error:
            self._emit(WorkerFailed(problem=f"{type(error).__name__}: {error}"))
            await self.save()
            raise
        finally:
            await self._claims.close()
            await self._checks.close()
            self._background.end()
            await end_tasks(*tasks)
            await self._background.close()
            if self._life:
                self._life.leave(remove=settled)
        self._emit(WorkerStopped(worker=self.name, given_back=given_back))
        if self._mismatch is not None:
            raise self._mismatch

    async def _claim(self) -> None:
        """Claim and run jobs, once it is clear that their rows go to the right store."""
        joined = False
        while not joined:
            try:
                await self._join()
                joined = True
            except StoreUnavailableError:
                await asyncio.sleep(STORE_AGAIN_S)
        await self._claims.run()

    async def _join(self) -> None:
        """Note the store in Redis. Raises StoreMismatchError when another one is noted."""
        mine = self._used_store or await used_store(self._settings, self._store)
        self._used_store = mine
        used = await self._scripts.persist(lambda: note(self._redis, mine))
        if problem := differing(used, mine):
            raise problem
        self._background.may_write.set()

    async def _check_store(self) -> None:
        """Note the store again, since Redis may have lost it; stop when another took its place."""
        try:
            await self._join()
        except StoreMismatchError as error:
            self._mismatch = error
            self.stop()

    async def _settle_last(self, settling: asyncio.Task[None]) -> bool:
        """Wait until Redis and the store know all; what they do not take goes to the spool.

        Returns whether Redis knows all. Without it the leases just run out, unless the next worker
        here releases them. Where neither the store nor the spool takes an
        answer, the process stays until one of them does, or until it is stopped again.
        """
        try:
            async with asyncio.timeout(None if self.burst else LAST_S):
                await asyncio.shield(settling)
                await self._scripts.command("HDEL", keys.WORKERS, self.name)
                await self._scripts.command("HDEL", keys.TROUBLES, self.name)
            settled = True
        except TimeoutError:
            settled = False
            await self.save()
        if self._committer.unsaved:
            problem = self._committer.spool_problem
            self._emit(AnswersUnsaved(answers=self._committer.unsaved, problem=problem))
        while self._committer.unsaved and not self._at_once.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_S):
                    await self._at_once.wait()
            await self.save()
        return settled

    async def save(self) -> None:
        """Put on the disk what the store has not taken; Redis may be away. Takes LAST_S at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                await self._committer.save()

    def stop(self, *, at_once: bool = False) -> None:
        """Claim nothing more. Calls under way have the grace period to finish, unless `at_once`."""
        self._stopping.set()
        if at_once:
            self._at_once.set()
        self._claims.stop()

    def handle_sig(self, signum: Signals) -> None:
        """Stop gracefully at the first signal and at once at the second."""
        del signum
        self.stop(at_once=self._stopping.is_set())

    async def close(self) -> None:
        """Do nothing: the caller owns the connections (arq's own would close them)."""

    async def _drain(self, claiming: asyncio.Task[None]) -> int:
        """Let calls finish within the grace period, then give the rest back; return how many."""
        hurry = asyncio.create_task(self._at_once.wait())
        deadline = asyncio.get_running_loop().time() + self._settings.grace_s
        with contextlib.suppress(TimeoutError):  # the last claim, unless Redis or store are away
            async with asyncio.timeout(LAST_S):
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
