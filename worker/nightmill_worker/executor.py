"""One attempt as named steps over one Flight: look, attach, call, classify, settle, decide, end.

Nothing here raises for what an endpoint, a payload or a job does: every flight ends as a row in
the sink or as a release to its queue.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from nightmill.job import now_ms
from nightmill.result import Attempt, ErrorInfo
from nightmill.state import JobState
from nightmill_worker import retry
from nightmill_worker.attachments import attached
from nightmill_worker.engine import Release, Settlement
from nightmill_worker.events import CallFailed, CallRefused, JobQuarantined
from nightmill_worker.lane.heard import gate_named, limits_in
from nightmill_worker.messages.classify import classify
from nightmill_worker.messages.outcome import Fail, Retry, Snooze, StopLine, Succeeded
from nightmill_worker.sink import Ending

if TYPE_CHECKING:
    import random

    from nightmill.settings import Settings
    from nightmill_worker.attachments import Attachments
    from nightmill_worker.events import Emit
    from nightmill_worker.flight import Ended, Flight
    from nightmill_worker.messages.client import MessagesClient
    from nightmill_worker.messages.outcome import Outcome

SETTLED_AS: Final[dict[type, Ended]] = {
    Succeeded: "ok",
    Snooze: "refused",
    Retry: "failed",
    StopLine: "stop",
}


class Outlets(Protocol):
    """Where an executor puts what follows from a call; the fleet worker carries it to Redis."""

    def settle(self, item: Settlement) -> None:
        """Account for an answer."""

    def release(self, item: Release) -> None:
        """Give a job back."""

    def end(self, item: Ending) -> None:
        """Store a row and finish its job."""

    def alone_in_lane(self, flight: Flight) -> bool:
        """Tell whether nothing else of this flight's lane runs."""


class Executor:
    """Runs attempts; shared by all flights of a process."""

    def __init__(  # noqa: PLR0913 - what an attempt needs from outside
        self,
        client: MessagesClient,
        settings: Settings,
        outlets: Outlets,
        emit: Emit,
        *,
        attachments: Attachments,
        rng: random.Random,
    ) -> None:
        """Take the endpoint's client, the files, where things go, and the randomness of waits."""
        self._client = client
        self._attachments = attachments
        self._settings = settings
        self._outlets = outlets
        self._emit = emit
        self._rng = rng

    async def run(self, flight: Flight) -> None:
        """Take one flight from its claim to its end; one that is cancelled is `cut_off`'s.

        Raises nothing else but a defect of nightmill.
        """
        if self._ends_without_a_call(flight):
            return
        if attached(flight.body):
            await self._attach_and_call(flight)
        else:
            await self._call(flight, flight.body)

    async def _attach_and_call(self, flight: Flight) -> None:
        """Call with the attachments in place, or end or give back what has none to send."""
        async with self._attachments.loaded(flight.body) as body:
            if isinstance(body, bytes):
                flight.started_at = now_ms()  # reading files is no part of the call
                await self._call(flight, body)
                return
        flight.settled = True
        self._outlets.settle(flight.settlement("unsent"))
        if isinstance(body, Fail):
            self._end(flight, JobState.FAILED, None, error=body.error)
        else:
            self._conclude(flight, body)

    async def _call(self, flight: Flight, body: bytes) -> None:
        reply = await self._client.send(body)
        outcome = classify(reply, time.time())
        self._settle(flight, outcome, limits_in(reply.headers))
        self._conclude(flight, outcome)

    def _ends_without_a_call(self, flight: Flight) -> bool:
        """End what must not be paid for: aborted, expired, invalid, poison."""
        if flight.claimed.verdict == "aborted":
            status, error = JobState.CANCELLED, None
        elif flight.problem is not None:
            status, error = JobState.FAILED, flight.problem
            if error.type in {"poison", "invalid_payload"}:
                self._emit(JobQuarantined(job_id=flight.claimed.id, reason=error.message))
        elif flight.expired:
            status, error = JobState.EXPIRED, None
        else:
            return False
        self._outlets.settle(flight.settlement("unsent"))
        self._end(flight, status, None, error=error)
        return True

    def _settle(self, flight: Flight, outcome: Outcome, told: dict[str, tuple[int, int]]) -> None:
        flight.settled = True
        if isinstance(outcome, Succeeded):
            self._outlets.settle(flight.settlement("ok", outcome.usage, told))
            return
        item = flight.settlement(SETTLED_AS.get(type(outcome), "rejected"), None, told)
        wait_s, refused = outcome.retry_after_s, isinstance(outcome, Snooze)
        fix = f" ({outcome.error.fix})" if outcome.error.fix else ""
        self._outlets.settle(
            msgspec.structs.replace(
                item,
                gate=gate_named(outcome.error.message) if refused else None,
                retry_after_ms=None if wait_s is None else int(wait_s * 1000),
                reason=f"{outcome.error.type}: {outcome.error.message}{fix}",
            )
        )

    def _conclude(self, flight: Flight, outcome: Outcome) -> None:
        claimed = flight.claimed
        decision = retry.decide(
            outcome,
            attempts=claimed.counted + 1,
            refusals=claimed.refusals + 1,
            alone=isinstance(outcome, Snooze) and self._outlets.alone_in_lane(flight),
            max_attempts=self._settings.max_attempts,
            rng=self._rng,
        )
        if isinstance(decision, retry.Store):
            attempt = _attempt(flight, outcome, decision.status, counted=True, wait_ms=None)
            message = outcome if isinstance(outcome, Succeeded) else None
            self._end(flight, decision.status, attempt, message=message, error=decision.error)
        else:
            attempt = _attempt(
                flight,
                outcome,
                decision.state,
                counted=decision.counted,
                wait_ms=decision.wait_ms,
            )
            self._tell(flight, attempt)
            refused = isinstance(outcome, Snooze)
            self._release(flight, decision, attempt, refused=refused)

    def _tell(self, flight: Flight, attempt: Attempt) -> None:
        job_id, message = flight.claimed.id, attempt.error_message or ""
        wait = attempt.wait_ms or 0
        if attempt.counted:
            kind = attempt.error_type or ""
            self._emit(CallFailed(job_id=job_id, error_type=kind, message=message, wait_ms=wait))
        else:
            self._emit(CallRefused(job_id=job_id, message=message, wait_ms=wait))

    def _end(
        self,
        flight: Flight,
        status: JobState,
        attempt: Attempt | None,
        *,
        message: Succeeded | None = None,
        error: ErrorInfo | None = None,
    ) -> None:
        settings = self._settings
        row = flight.result(
            status,
            attempt,
            message=message,
            error=error,
            keep_params=settings.keep_params,
            rehearsal=settings.rehearsal,
        )
        self._outlets.end(Ending(row=row, finish=flight.finish(row)))

    def _release(
        self, flight: Flight, decision: retry.Release, attempt: Attempt | None, *, refused: bool
    ) -> None:
        claimed = flight.claimed
        self._outlets.release(
            Release(
                id=claimed.id,
                token=claimed.token,
                queue=claimed.queue,
                state="retrying" if decision.state is JobState.RETRYING else "snoozed",
                wait_ms=decision.wait_ms,
                counted=int(decision.counted),
                refused=int(refused),
                attempt=msgspec.json.encode(attempt).decode() if attempt else "",
            )
        )

    def cut_off(self, flight: Flight) -> None:
        """End a flight that was cut off: aborted by its user, or given back at shutdown."""
        if not flight.settled:
            self._outlets.settle(flight.settlement("unsent"))
        if flight.ending == "abort":
            attempt = flight.attempt("cancelled", counted=False)
            self._end(flight, JobState.CANCELLED, attempt)
        elif flight.ending != "lost":
            given_back = retry.Release(state=JobState.SNOOZED, wait_ms=0, counted=False)
            attempt = flight.attempt("snoozed", counted=False, error_type="shutdown", wait_ms=0)
            self._release(flight, given_back, attempt, refused=False)


def _attempt(
    flight: Flight, outcome: Outcome, state: JobState, *, counted: bool, wait_ms: int | None
) -> Attempt:
    error: ErrorInfo | None = None if isinstance(outcome, Succeeded) else outcome.error
    return flight.attempt(
        state,
        counted=counted,
        status=outcome.status,
        request_id=outcome.request_id,
        error_type=error.type if error else None,
        error_message=error.message if error else None,
        wait_ms=wait_ms,
    )
