"""Claims: takes jobs as the lanes grant them, and starts each that is not stored already."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final, TypeVar

from nightmill.enqueue.prepare import defaults_of_queued
from nightmill.errors import StoreUnavailableError
from nightmill.queue import keys, wire
from nightmill.queue.patience import waits
from nightmill.setting_tables import read_groups
from nightmill_worker.events import AccountStopped, ClaimsHeld, LaneHeld, LaneStopped, failed_loop
from nightmill_worker.fleet.acceptances import Acceptances
from nightmill_worker.group_events import JobsClaimed
from nightmill_worker.jobs.claimed_job import ClaimedJob
from nightmill_worker.jobs.decision import INTERNAL
from nightmill_worker.jobs.isolation import Isolation
from nightmill_worker.queue.records import Ask
from nightmill_worker.queue.scripts import RedisUnusableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from nightmill.records.turn import Turn
    from nightmill.settings import Settings
    from nightmill.store import ResultStore
    from nightmill_worker.completion.committer import Committer
    from nightmill_worker.completion.settler import Settler
    from nightmill_worker.events import Emit
    from nightmill_worker.jobs.decision import Decider
    from nightmill_worker.jobs.defects import Defects
    from nightmill_worker.jobs.executor import Executor
    from nightmill_worker.jobs.in_flight import InFlight
    from nightmill_worker.queue.records import Grant
    from nightmill_worker.queue.scripts import Scripts

T = TypeVar("T")

LARGEST_CLAIM: Final = 200
CLAIM_GAP_S: Final = 0.025
"""Shortest time between two claims of a busy worker, seconds; a lane's buckets hold twice that."""
LOOK_S: Final = 0.25
"""A worker looks this often for what others give back, since a wake may be lost; seconds."""
FULL_LOOK_S: Final = 1.0
"""A worker without a free slot looks this often for aborts, seconds."""
LANES_WAIT_S: Final = 1.0
"""Longest wait for a lane. A longer one says that no job is due: a new one brings a wake."""
STORE_AGAIN_S: Final = 1.0
CLAIM_AGAIN_S: Final = (0.1, 5.0)
"""First and longest wait after a claim that raised, seconds."""


class Claims:
    """Claims jobs for one worker process and starts them."""

    def __init__(  # noqa: PLR0913 - where jobs come from, and where they go
        self,
        settings: Settings,
        store: ResultStore,
        scripts: Scripts,
        registry: InFlight,
        emit: Emit,
        *,
        worker: str,
        account: str,
        executor: Executor,
        decider: Decider,
        defects: Defects,
        settler: Settler,
        committer: Committer,
        burst: bool,
    ) -> None:
        """Take what a job meets on its way; with `burst`, end when nothing is left."""
        self._settings, self._store, self._scripts = settings, store, scripts
        self._registry, self._emit = registry, emit
        self._worker, self._account = worker, account
        self._executor, self._decider, self._defects = executor, decider, defects
        self._settler, self._committer = settler, committer
        self._burst = burst
        self._groups = read_groups(settings.limit_groups)
        self._defaults = defaults_of_queued(settings)
        self._stopping = False
        self._isolation = Isolation(
            settings,
            decider,
            self._defaults,
            put=settler.put,
            answered=executor.answered,
            finish=self._finish_again,
        )
        self._acceptances = Acceptances(scripts)
        self._account_stopped = False
        self._held: dict[str, tuple[str, str]] = {}
        self._seq = 0
        self.store_problem = ""
        """Why the store does not answer look-ups, "" when it does."""

    def stop(self) -> None:
        """Claim nothing more."""
        self._stopping = True
        self._registry.room.set()

    async def close(self) -> None:
        """End the isolation process; no job runs any more."""
        await self._isolation.close()

    async def run(self) -> None:
        """Claim until `stop`, or with `burst` until nothing is left.

        A claim that raises is repeated after a wait: a bad value that one claim brings must not
        end the worker. A Redis that refuses the first claim for good does end it.
        """
        pauses = waits(*CLAIM_AGAIN_S)
        while not self._stopping:
            try:
                if await self._claim_once():
                    return
                pauses = waits(*CLAIM_AGAIN_S)
            except RedisUnusableError:
                raise
            except Exception as error:  # noqa: BLE001 - see above
                again_s = next(pauses)
                self._emit(failed_loop("claim", error, again_s))
                await asyncio.sleep(again_s)

    async def _claim_once(self) -> bool:
        """Claim and start jobs once, then wait for a reason to claim; return whether to end."""
        self._registry.room.clear()
        want = self._wanted()
        began = time.monotonic()
        grant = await self._scripts.claim(self._ask(want))
        self._emit(JobsClaimed(jobs=len(grant.jobs), seconds=time.monotonic() - began))
        self._seq += 1
        await self._take_off(grant)
        for job_id in grant.aborts:
            self._registry.cut_off(job_id, "abort")
        self._watch_account(grant)
        idle = not grant.jobs and not len(self._registry)
        if self._burst and idle and await self._nothing_queued():
            return True
        await self._rest(grant, want)
        return False

    def _wanted(self) -> int:
        """Return how many jobs to ask for now: the free slots, unless answers pile up."""
        piled_up = len(self._registry) > 2 * self._settings.max_in_flight
        if piled_up or self._committer.away or self._scripts.refused:
            return 0
        free = min(self._registry.free, LARGEST_CLAIM)
        return self._defects.claimable(free, len(self._registry), time.monotonic())

    def _kept(self, want: int) -> int:
        """Return how many of the slots that are asked for batches leave to interactive calls."""
        s, registry = self._settings, self._registry
        free = registry.free
        share = min(max(1, int(s.interactive_share * s.max_in_flight)), s.max_in_flight - 1)
        return min(want, max(0, share - registry.clients - (free - want)))

    def _ask(self, want: int) -> Ask:
        s = self._settings
        return Ask(
            worker=self._worker,
            seq=self._seq,
            account=self._account,
            want=want,
            lease_ms=int(s.lease_s * 1000),
            functions={wire.FUNCTION: True},
            model=s.model,
            groups=self._groups,
            only=s.only_batch,
            rehearsal=s.rehearsal,
            share=s.interactive_share,
            keep=self._kept(want),
        )

    async def _take_off(self, grant: Grant) -> None:
        """Start the granted jobs, except those that are stored already."""
        new = [granted for granted in grant.jobs if not self._registry.adopt(granted)]
        jobs = [ClaimedJob(each, self._worker, self._account, self._defaults) for each in new]
        try:
            stored = await self._hold(jobs, grant.accepts)
        except asyncio.CancelledError:
            for claimed in jobs:
                self.cut_off(claimed)
            raise
        except Exception as error:  # noqa: BLE001 - these jobs go back, the next claim may work
            for claimed in jobs:
                self.faulted(claimed, error)
            return
        for claimed in jobs:
            try:
                await self._start(claimed, stored)
            except Exception as error:  # noqa: BLE001 - this job goes back, the others start
                self.faulted(claimed, error)

    async def _hold(self, jobs: Sequence[ClaimedJob], accepts: Mapping[str, str]) -> dict[str, int]:
        """Hold new jobs; return those that are stored: job_id -> the stored run."""
        if not jobs:
            return {}
        ids = [claimed.granted.id for claimed in jobs]
        await self._registry.let_go(ids)
        for claimed in jobs:
            self._registry.hold(claimed)
            if claimed.problem and claimed.problem.type == "invalid_payload":
                await self._scripts.quarantine(claimed.granted.id, claimed.granted.payload)
        if accepts:
            await self._acceptances.give(jobs, accepts)
        stored, going = await self._ask_store(lambda: self._store.started(ids))
        if going:
            await self._take_turns([each for each in jobs if each.granted.id in going])
        return stored

    async def _take_turns(self, jobs: Sequence[ClaimedJob]) -> None:
        """Give jobs the turns from which they go on; forget those that answer other requests."""
        ids = [claimed.granted.id for claimed in jobs]
        turns = await self._ask_store(lambda: self._store.turns(ids))
        others: list[Turn] = []
        for claimed in jobs:
            others += claimed.go_on_from(turns.get(claimed.granted.id, ()))
        if others:
            await self._ask_store(lambda: self._store.abandon(others))

    async def _start(self, claimed: ClaimedJob, stored: Mapping[str, int]) -> None:
        """Start one job, or finish it where its row is there already."""
        stored_run = stored.get(claimed.granted.id, -1)
        if claimed.granted.verdict == "alone":
            self._registry.start(claimed, self._isolation.run(claimed, stored_run))
        elif stored_run >= claimed.job.run:
            await self._finish_again(claimed)
        else:
            self._registry.start(claimed, self._executor.run(claimed))

    async def _ask_store(self, call: Callable[[], Awaitable[T]]) -> T:
        """Return what the store answers; wait while it is away (leases are renewed)."""
        while True:
            try:
                found = await call()
            except StoreUnavailableError as error:
                self.store_problem = str(error)
                await asyncio.sleep(STORE_AGAIN_S)
            else:
                self.store_problem = ""
                return found

    async def _finish_again(self, claimed: ClaimedJob) -> None:
        """Finish a job whose row was committed before: it is not paid for twice."""
        row = await self._ask_store(lambda: self._store.get(claimed.granted.id))
        if row is None:  # pruned between the two looks
            self._registry.start(claimed, self._executor.run(claimed))
            return
        self._settler.put(self._decider.stored_before(claimed, row))

    def cut_off(self, claimed: ClaimedJob) -> None:
        """Give back, or end, a job whose call was cut off."""
        self._settler.put(self._decider.cut_off(claimed))

    def faulted(self, claimed: ClaimedJob, error: BaseException) -> None:
        """Give back, or fail, a job under which nightmill itself raised."""
        known = self._defects.problem
        job_id, past = claimed.granted.id, claimed.granted.attempts
        earlier = past.count(INTERNAL.encode())
        verdict = self._defects.found(job_id, error, earlier, time.monotonic())
        try:
            decision = self._decider.faulted(claimed, error, verdict)
        except Exception:  # noqa: BLE001 - not even its row can be built: it goes back
            decision = self._decider.postponed(claimed)
        self._settler.put(decision)
        if self._defects.problem and not known:
            self._emit(ClaimsHeld(problem=self._defects.problem))

    async def _rest(self, grant: Grant, want: int) -> None:
        """Wait for a reason to claim again: a freed slot, a wake, or the end of the pause."""
        registry, wait_s = self._registry, grant.wait_ms / 1000
        full = not want or registry.free <= 0
        if len(grant.jobs) == LARGEST_CLAIM and not full:
            return
        claimed_at = time.monotonic()
        pause = FULL_LOOK_S if full else min(wait_s, LOOK_S)
        if not full and wait_s > LANES_WAIT_S and not len(registry):
            pause = wait_s
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await registry.room.wait()
        left = claimed_at + CLAIM_GAP_S - time.monotonic()
        if registry.running and left > 0:
            await asyncio.sleep(left)

    def _watch_account(self, grant: Grant) -> None:
        """Emit what has stopped since the last claim."""
        stopped = grant.account.get("state") == "stopped"
        if stopped and not self._account_stopped:
            self._emit(
                AccountStopped(account=self._account, reason=grant.account.get("reason", ""))
            )
        self._account_stopped = stopped
        for model, (state, reason) in grant.held.items():
            if self._held.get(model, ("", ""))[0] != state:
                kind = LaneStopped if state == "stopped" else LaneHeld
                self._emit(kind(account=self._account, model=model, reason=reason))
        self._held = grant.held

    async def _nothing_queued(self) -> bool:
        active = await self._scripts.command("SMEMBERS", keys.QUEUES)
        for queue in (keys.QUEUE, *active):
            if await self._scripts.command("ZCARD", queue):
                return False
        return True
