"""The registry: which flights this process holds, which of them run, and how they are cut off."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable

    from nightmill_worker.jobs.claimed_job import ClaimedJob
    from nightmill_worker.queue.scripts import Finish, GrantedJob, Lease, Release


class InFlight:
    """Flights from their claim until Redis knows their end.

    `changed` is set when one moves on, `room` when a claim may find what it did not before.

    A flight *runs* while its call is under way; afterwards it is only *held* (its lease is still
    renewed) until its row is committed or its release has been sent.
    """

    def __init__(self, cut_off: Callable[[ClaimedJob], None]) -> None:
        """Start empty; `cut_off` ends a flight whose call was cancelled."""
        self._cut_off = cut_off
        self._held: dict[str, ClaimedJob] = {}
        self._crash: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.running = 0
        self.changed = asyncio.Event()
        self.room = asyncio.Event()

    def __len__(self) -> int:
        """Count the flights held, running or not."""
        return len(self._held)

    @property
    def leases(self) -> list[Lease]:
        """What is to be renewed."""
        return [flight.lease for flight in self._held.values()]

    def hold(self, flight: ClaimedJob) -> None:
        """Add a flight that was just claimed."""
        self._held[flight.claimed.id] = flight

    def adopt(self, claimed: GrantedJob) -> bool:
        """Give a call under way the lease that this process took anew; tells whether there is one.

        A process that was blocked past its lease may claim its own job again: one call is enough.
        """
        flight = self._held.get(claimed.id)
        if flight is None or flight.task is None or flight.task.done():
            return False
        flight.claimed = claimed
        return True

    async def let_go(self, ids: Collection[str]) -> None:
        """Wait until what this process still holds of `ids` is stored, or released, or lost.

        A process that was blocked past its leases may claim a job whose answer is on its way to
        the store: looked up before that is there, it would be paid for twice.
        """
        while any(job_id in self._held for job_id in ids):
            self.changed.clear()
            await self.changed.wait()

    def forget(self, ended: Iterable[Finish | Release | Lease]) -> None:
        """Drop the flights whose ends Redis knows, unless a job was claimed anew meanwhile."""
        for each in ended:
            if self.holds(each.id, each.token):
                del self._held[each.id]
        self.changed.set()
        if not self._held:
            self.room.set()

    def holds(self, job_id: str, token: str) -> bool:
        """Tell whether `job_id` is held here under the lease `token`."""
        flight = self._held.get(job_id)
        return flight is not None and flight.claimed.token == token

    def start(self, flight: ClaimedJob, work: Coroutine[object, object, None]) -> None:
        """Run `work`, the flight's call, as a task of its own."""
        self.running += 1
        if self._loop is None:  # asked for once: each time is a system call
            self._loop = asyncio.get_running_loop()
        flight.task = self._loop.create_task(work)
        flight.task.add_done_callback(partial(self._landed, flight))

    def _landed(self, flight: ClaimedJob, task: asyncio.Task[None]) -> None:
        self.running -= 1
        self.changed.set()
        if task.cancelled():  # perhaps before its first step, so `work` itself could not see to it
            self._cut_off(flight)
        elif (error := task.exception()) is not None:
            self._crash = error

    def raise_crash(self) -> None:
        """Raise the defect that a flight died of; its lease runs out and another worker tries."""
        if self._crash is not None:
            raise self._crash

    def tasks(self, *, but: Collection[ClaimedJob] = ()) -> list[asyncio.Task[None]]:
        """Return the calls under way, without those of `but`."""
        return [
            flight.task
            for flight in self._held.values()
            if flight.task is not None and flight not in but and not flight.task.done()
        ]

    def cut_off(self, job_id: str, why: Literal["abort", "shutdown", "lost"]) -> bool:
        """Cancel a flight's call and note why; returns whether one was under way."""
        flight = self._held.get(job_id)
        if flight is None or flight.task is None or flight.task.done():
            return False
        flight.ending = why
        flight.task.cancel()
        return True

    def cut_off_all(self) -> int:
        """Cancel every call under way for a shutdown; returns how many there were."""
        return sum(self.cut_off(job_id, "shutdown") for job_id in list(self._held))

    def alone_in_lane(self, flight: ClaimedJob) -> bool:
        """Tell whether no other flight of this process uses the lane."""
        model = flight.claimed.model
        others = (other for other in self._held.values() if other is not flight)
        return not any(other.claimed.model == model for other in others)
