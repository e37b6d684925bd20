"""One attempt of one claimed job: look, attach, call. What follows is decided in `decision`.

Nothing here raises for what an endpoint, a payload or a job does.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from nightmill_worker.attachments.loader import attached
from nightmill_worker.jobs.decision import Answered
from nightmill_worker.jobs.turns import body_of, whole_answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from nightmill_worker.attachments.loader import Attachments
    from nightmill_worker.jobs.claimed_job import ClaimedJob
    from nightmill_worker.jobs.decision import Decider, Decision
    from nightmill_worker.messages.client import MessagesClient
    from nightmill_worker.messages.outcome import Broken, Reply


Check: TypeAlias = "Callable[[ClaimedJob, bytes], Awaitable[str]]"
"""Returns what is wrong with the output in a Message (JSON), "" when it passes. Never raises."""


async def unchecked(_claimed: ClaimedJob, _message: bytes) -> str:
    """Let every output pass."""
    return ""


class Executor:
    """Runs attempts; shared by all claimed jobs of a process."""

    def __init__(
        self,
        client: MessagesClient,
        attachments: Attachments,
        decider: Decider,
        put: Callable[[Answered | Decision], None],
        check: Check | None = None,
    ) -> None:
        """Take the endpoint's client, the files, and where answers and decisions go.

        `check` is asked about the answers of jobs whose output must pass.
        """
        self._client = client
        self._attachments = attachments
        self._decider = decider
        self._put = put
        self._check = check or unchecked

    async def run(self, claimed: ClaimedJob) -> None:
        """Take one job from its claim to its answer.

        Raises nothing but CancelledError (the job was cut off) and defects of nightmill.
        """
        if (decision := self._decider.before_call(claimed)) is not None:
            self._put(decision)
        elif attached(body := body_of(claimed)):
            await self._attach_and_call(claimed, body)
        else:
            await self._call(claimed, body)

    async def _attach_and_call(self, claimed: ClaimedJob, request: bytes) -> None:
        """Call with the attachments in place, or decide about a job that has none to send."""
        async with self._attachments.loaded(request) as body:
            if isinstance(body, bytes):
                claimed.begin()  # reading files is no part of the call
                await self._call(claimed, body)
            else:
                self._put(self._decider.without_call(claimed, body))

    async def _call(self, claimed: ClaimedJob, body: bytes) -> None:
        reply = await self._client.send(body, partial(self._started, claimed), claimed.job.api)
        claimed.end()
        await self.answered(claimed, reply)

    async def answered(self, claimed: ClaimedJob, reply: Reply | Broken) -> None:
        """Hand an answer on; an output that must pass a check is checked before."""
        problem = ""
        if claimed.accept.checks_output and (message := whole_answer(claimed, reply)):
            problem = await self._check(claimed, message)
        self._put(Answered(claimed, reply, problem))

    def _started(self, claimed: ClaimedJob, headers: Mapping[str, str]) -> None:
        """Tell the lane the limits that the headers of an answer report, before it is whole."""
        if (decision := self._decider.begun(claimed, headers)) is not None:
            self._put(decision)
