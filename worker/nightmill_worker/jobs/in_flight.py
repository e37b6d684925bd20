"""The in-flight registry: the claimed jobs that this process holds, and which of them run."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable

    from nightmill_worker.jobs.claimed_job import ClaimedJob
    from nightmill_worker.queue.records import Finish, GrantedJob, Lease, Release

CLIENT: Final = ":c"
"""The end of the token of a job that a client waits for."""


class InFlight:
    """Claimed jobs, from their claim until Redis knows their end.

    A job *runs* while its call is under way. Afterwards it is only *held*: its lease is renewed
    until its row is committed or its release is sent. `changed` is set when a job moves on, `room`
    when a claim may find what it did not find before.
    """

    def __init__(self, slots: int) -> None:
        """Start empty, with so many slots; `subscribe` before a job starts."""
        self._slots = slots
        self._cut_off: Callable[[ClaimedJob], None]
        self._faulted: Callable[[ClaimedJob, BaseException], None]
        self._held: dict[str, ClaimedJob] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.running = 0
        self.clients = 0
        """Those of the running jobs that clients wait for."""
        self.changed = asyncio.Event()
        self.room = asyncio.Event()

    def subscribe(
        self,
        cut_off: Callable[[ClaimedJob], None],
        faulted: Callable[[ClaimedJob, BaseException], None],
    ) -> None:
        """Take what ends a job whose call was cancelled, and what ends one that raised."""
        self._cut_off, self._faulted = cut_off, faulted

    def __len__(self) -> int:
        """Count the jobs held, running or not."""
        return len(self._held)

    @property
    def free(self) -> int:
        """How many jobs may start."""
        return self._slots - self.running

    @property
    def leases(self) -> list[Lease]:
        """The leases to renew."""
        return [claimed.lease for claimed in self._held.values()]

    def held(self, ids: Collection[str]) -> list[ClaimedJob]:
        """Return those of the jobs `ids` that are held here."""
        return [claimed for job_id in ids if (claimed := self._held.get(job_id)) is not None]

    def hold(self, claimed: ClaimedJob) -> None:
        """Add a job that was just claimed."""
        self._held[claimed.granted.id] = claimed

    def adopt(self, granted: GrantedJob) -> bool:
        """Give a call under way the new lease of its job; return whether there is such a call.

        A process that was blocked past its lease may claim its own job again: one call is enough.
        """
        claimed = self._held.get(granted.id)
        if claimed is None or claimed.task is None or claimed.task.done():
            return False
        claimed.granted = granted
        return True

    async def let_go(self, ids: Collection[str]) -> None:
        """Wait until every job of `ids` that is still held here is stored, released or lost.

        A process that was blocked past its leases may claim a job again while its answer is on its
        way to the store. A look-up before the commit would not find the row: a second payment.
        """
        while any(job_id in self._held for job_id in ids):
            self.changed.clear()
            await self.changed.wait()

    def forget(self, ended: Iterable[Finish | Release | Lease]) -> None:
        """Drop the jobs whose ends Redis knows, unless a job was claimed anew meanwhile."""
        for each in ended:
            if self.holds(each.id, each.token):
                del self._held[each.id]
        self.changed.set()
        if not self._held:
            self.room.set()

    def holds(self, job_id: str, token: str) -> bool:
        """Return whether `job_id` is held here under the lease `token`."""
        claimed = self._held.get(job_id)
        return claimed is not None and claimed.granted.token == token

    def start(self, claimed: ClaimedJob, work: Coroutine[object, object, None]) -> None:
        """Run `work`, the job's call, as a task of its own."""
        self.running += 1
        client = claimed.granted.token.endswith(CLIENT)
        self.clients += client
        if self._loop is None:  # kept: each get_running_loop is a system call
            self._loop = asyncio.get_running_loop()
        claimed.task = self._loop.create_task(work)
        claimed.task.add_done_callback(partial(self._ended, claimed, client))

    def _ended(self, claimed: ClaimedJob, client: bool, task: asyncio.Task[None]) -> None:  # noqa: FBT001 - of `start` alone
        self.running -= 1
        self.clients -= client
        self.changed.set()
        if task.cancelled():  # perhaps before its first step, so `work` itself could not note it
            self._cut_off(claimed)
        elif (error := task.exception()) is not None:
            self._faulted(claimed, error)

    def tasks(self, *, but: Collection[ClaimedJob] = ()) -> list[asyncio.Task[None]]:
        """Return the calls under way, without those of `but`."""
        return [
            claimed.task
            for claimed in self._held.values()
            if claimed.task is not None and claimed not in but and not claimed.task.done()
        ]

    def cut_off(self, job_id: str, why: Literal["abort", "shutdown", "lost"]) -> bool:
        """Cancel a job's call and note why; return whether one was under way."""
        claimed = self._held.get(job_id)
        if claimed is None or claimed.task is None or claimed.task.done():
            return False
        claimed.cut_off_by = why
        claimed.task.cancel()
        return True

    def cut_off_all(self) -> int:
        """Cancel every call under way for a shutdown; return how many there were."""
        return sum(self.cut_off(job_id, "shutdown") for job_id in list(self._held))
