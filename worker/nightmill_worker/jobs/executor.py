"""One attempt of one claimed job: look, attach, call. What follows is decided in `decision`.

Nothing here raises for what an endpoint, a payload or a job does.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from nightmill.errors import StoreUnavailableError
from nightmill.records.result import ErrorInfo
from nightmill_worker.attachments.loader import attached
from nightmill_worker.checks.output_checks import PASSED
from nightmill_worker.jobs.decision import Answered
from nightmill_worker.jobs.turns import body_of, whole_answer
from nightmill_worker.messages.outcome import Fail

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nightmill.records.stored_body import StoredBody
    from nightmill_worker.attachments.loader import Attachments
    from nightmill_worker.checks.messages import Verdict
    from nightmill_worker.checks.output_checks import OutputChecks
    from nightmill_worker.jobs.claimed_job import ClaimedJob
    from nightmill_worker.jobs.decision import Decider, Decision
    from nightmill_worker.messages.client import MessagesClient
    from nightmill_worker.messages.outcome import Broken, Reply


class Executor:
    """Runs attempts; shared by all claimed jobs of a process."""

    def __init__(
        self,
        client: MessagesClient,
        attachments: Attachments,
        decider: Decider,
        put: Callable[[Answered | Decision], None],
        checks: OutputChecks,
    ) -> None:
        """Take the endpoint's client, the files, where answers and decisions go, and the checks."""
        self._client = client
        self._attachments = attachments
        self._decider = decider
        self._put = put
        self._checks = checks

    async def run(self, claimed: ClaimedJob) -> None:
        """Take one job from its claim to its answer.

        Raises nothing but CancelledError (the job was cut off) and defects of nightmill.
        """
        if (decision := self._decider.before_call(claimed)) is not None:
            self._put(decision)
        elif claimed.accept.checks_output and (why := await self._checks.missing(claimed.accept)):
            self._put(self._decider.without_call(claimed, _without_check(why)))
        elif claimed.stored is not None:
            await self._read_and_call(claimed, claimed.stored)
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

    async def _read_and_call(self, claimed: ClaimedJob, at: StoredBody) -> None:
        """Call with the request that is in the store; it refers to no files.

        While the store is away, the job goes back. When the request was deleted, it is cancelled.
        """
        try:
            async with self._attachments.stored(at) as body:
                if body is None:
                    self._put(self._decider.deleted(claimed))
                    return
                claimed.load(body)
                claimed.begin()
                await self._call(claimed, body_of(claimed))
        except StoreUnavailableError:
            self._put(self._decider.postponed(claimed))

    async def _call(self, claimed: ClaimedJob, body: bytes) -> None:
        reply = await self._client.send(body, partial(self._started, claimed), claimed.job.api)
        claimed.end()
        await self.answered(claimed, reply)

    async def answered(self, claimed: ClaimedJob, reply: Reply | Broken) -> None:
        """Hand an answer on; an output that must pass a check is checked before."""
        verdict = PASSED
        if claimed.accept.checks_output and (message := whole_answer(claimed, reply)):
            verdict = await self._verdict(claimed, message)
        self._put(Answered(claimed, reply, verdict))

    async def _verdict(self, claimed: ClaimedJob, message: bytes) -> Verdict:
        """Check an output to the end, also when the job is cut off: its answer is paid for.

        A shutdown waits for that, CHECK_TIMEOUT_S at most.
        """
        checking = asyncio.ensure_future(
            self._checks.verdict(message, claimed.accept, _row(claimed))
        )
        try:
            return await asyncio.shield(checking)
        except asyncio.CancelledError:
            return await checking

    def _started(self, claimed: ClaimedJob, headers: Mapping[str, str]) -> None:
        """Tell the lane the limits that the headers of an answer report, before it is whole."""
        if (decision := self._decider.begun(claimed, headers)) is not None:
            self._put(decision)


def _row(claimed: ClaimedJob) -> dict[str, object]:
    """Return what an operator's check gets beside the Message."""
    job = claimed.job
    return {
        "job_id": claimed.granted.id,
        "batch": job.batch,
        "custom_id": job.custom_id,
        "seq": job.seq,
        "run": job.run,
        "params": msgspec.Raw(claimed.body),
    }


def _without_check(why: str) -> Fail:
    """Return why a job is not called: its answer could not be checked."""
    fix = "correct the schema or the setting CHECKS of the workers, then run `nightmill retry`"
    return Fail(error=ErrorInfo(type="check_missing", message=why, fix=fix))
