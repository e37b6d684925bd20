"""The roster: which flights this process holds, which of them run, and how they are cut off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine

    from nightmill_worker.engine import Lease
    from nightmill_worker.flight import Flight


class Roster:
    """Flights from their claim until Redis knows their end; `changed` is set when one moves on.

    A flight *runs* while its call is under way; afterwards it is only *held* (its lease is still
    renewed) until its row is committed or its release has been sent.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._held: dict[str, Flight] = {}
        self._crash: BaseException | None = None
        self.running = 0
        self.changed = asyncio.Event()

    def __len__(self) -> int:
        """Count the flights held, running or not."""
        return len(self._held)

    @property
    def leases(self) -> list[Lease]:
        """What is to be renewed."""
        return [flight.lease for flight in self._held.values()]

    def hold(self, flight: Flight) -> None:
        """Add a flight that was just claimed."""
        self._held[flight.claimed.id] = flight

    def get(self, job_id: str) -> Flight | None:
        """Return the flight of `job_id` if it is held here."""
        return self._held.get(job_id)

    def forget(self, job_id: str) -> None:
        """Drop a flight whose end Redis knows."""
        self._held.pop(job_id, None)
        self.changed.set()

    def start(self, flight: Flight, work: Coroutine[object, object, None]) -> None:
        """Run `work`, the flight's call, as a task of its own."""
        self.running += 1
        flight.task = asyncio.get_running_loop().create_task(work)
        flight.task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self.running -= 1
        self.changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crash = error

    def raise_crash(self) -> None:
        """Raise the defect that a flight died of; its lease runs out and another worker tries."""
        if self._crash is not None:
            raise self._crash

    def tasks(self, *, but: Collection[Flight] = ()) -> list[asyncio.Task[None]]:
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

    def alone_in_lane(self, flight: Flight) -> bool:
        """Tell whether no other flight of this process uses the lane."""
        model = flight.claimed.model
        others = (other for other in self._held.values() if other is not flight)
        return not any(other.claimed.model == model for other in others)
