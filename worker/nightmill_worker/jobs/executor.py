"""One attempt of one claimed job: look, attach, call. What follows is decided in `decision`.

Nothing here raises for what an endpoint, a payload or a job does.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from nightmill_worker.attachments.loader import attached
from nightmill_worker.jobs.decision import Answered

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nightmill_worker.attachments.loader import Attachments
    from nightmill_worker.jobs.claimed_job import ClaimedJob
    from nightmill_worker.jobs.decision import Decider, Decision
    from nightmill_worker.messages.client import MessagesClient


class Executor:
    """Runs attempts; shared by all claimed jobs of a process."""

    def __init__(
        self,
        client: MessagesClient,
        attachments: Attachments,
        decider: Decider,
        put: Callable[[Answered | Decision], None],
    ) -> None:
        """Take the endpoint's client, the files, and where answers and decisions go."""
        self._client = client
        self._attachments = attachments
        self._decider = decider
        self._put = put

    async def run(self, claimed: ClaimedJob) -> None:
        """Take one job from its claim to its answer.

        Raises nothing but CancelledError (the job was cut off) and defects of nightmill.
        """
        if (decision := self._decider.before_call(claimed)) is not None:
            self._put(decision)
        elif attached(claimed.body):
            await self._attach_and_call(claimed)
        else:
            await self._call(claimed, claimed.body)

    async def _attach_and_call(self, claimed: ClaimedJob) -> None:
        """Call with the attachments in place, or decide about a job that has none to send."""
        async with self._attachments.loaded(claimed.body) as body:
            if isinstance(body, bytes):
                claimed.begin()  # reading files is no part of the call
                await self._call(claimed, body)
            else:
                self._put(self._decider.without_call(claimed, body))

    async def _call(self, claimed: ClaimedJob, body: bytes) -> None:
        reply = await self._client.send(body, partial(self._started, claimed), claimed.job.api)
        claimed.end()
        self._put(Answered(claimed, reply))

    def _started(self, claimed: ClaimedJob, headers: Mapping[str, str]) -> None:
        """Tell the lane the limits that the headers of an answer report, before it is whole."""
        if (decision := self._decider.begun(claimed, headers)) is not None:
            self._put(decision)
