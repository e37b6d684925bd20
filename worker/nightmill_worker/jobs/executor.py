"""One attempt over one ClaimedJob: look, attach, call. What follows from the answer: conclusion.py.

Nothing here raises for what an endpoint, a payload or a job does: every flight is concluded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightmill.records.job import now_ms
from nightmill_worker.attachments.loader import attached
from nightmill_worker.jobs.decision import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from nightmill_worker.attachments.loader import Attachments
    from nightmill_worker.jobs.claimed_job import ClaimedJob
    from nightmill_worker.jobs.decision import Concluder, Conclusion
    from nightmill_worker.messages.client import MessagesClient


class Executor:
    """Runs attempts; shared by all flights of a process."""

    def __init__(
        self,
        client: MessagesClient,
        attachments: Attachments,
        concluder: Concluder,
        put: Callable[[Answer | Conclusion], None],
    ) -> None:
        """Take the endpoint's client, the files, and where answers and conclusions go."""
        self._client = client
        self._attachments = attachments
        self._concluder = concluder
        self._put = put

    async def run(self, flight: ClaimedJob) -> None:
        """Take one flight from its claim to its answer; one that is cancelled is `cut_off`'s.

        Raises nothing else but a defect of nightmill.
        """
        if (unfit := self._concluder.unfit(flight)) is not None:
            self._put(unfit)
        elif attached(flight.body):
            await self._attach_and_call(flight)
        else:
            await self._call(flight, flight.body)

    async def _attach_and_call(self, flight: ClaimedJob) -> None:
        """Call with the attachments in place, or conclude a flight that has none to send."""
        async with self._attachments.loaded(flight.body) as body:
            if isinstance(body, bytes):
                flight.started_at = now_ms()  # reading files is no part of the call
                await self._call(flight, body)
            else:
                self._put(self._concluder.uncalled(flight, body))

    async def _call(self, flight: ClaimedJob, body: bytes) -> None:
        reply = await self._client.send(body)
        flight.ended_at = now_ms()
        self._put(Answer(flight, reply))

    def cut_off(self, flight: ClaimedJob) -> None:
        """Conclude a flight that was cut off: aborted by its user, lost, or given back."""
        self._put(self._concluder.cut_off(flight))
