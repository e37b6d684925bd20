"""What follows from a call: the answer classified, the lane told, the job ended or given back.

Nothing here does I/O. Answers are concluded many at a time (see settler.py): this is the same little
code for each, and done between two calls it would find the processor's caches full of the calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.records.state import JobState
from nightmill_worker.completion.committer import Ending
from nightmill_worker.events import CallFailed, CallRefused, JobQuarantined
from nightmill_worker.jobs import retry
from nightmill_worker.jobs.claimed_job import ClaimedJob
from nightmill_worker.limiter.headers import gate_named, limits_in
from nightmill_worker.messages.classify import classify
from nightmill_worker.messages.outcome import (
    Broken,
    Fail,
    Reply,
    Retry,
    Snooze,
    StopAccount,
    Succeeded,
)
from nightmill_worker.queue.scripts import Release, Settlement

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from nightmill.records.result import Attempt, ErrorInfo
    from nightmill.settings import Settings
    from nightmill_worker.events import Emit
    from nightmill_worker.jobs.claimed_job import Ended
    from nightmill_worker.messages.outcome import Outcome

SETTLED_AS: Final[dict[type, Ended]] = {
    Succeeded: "ok",
    Snooze: "refused",
    Retry: "failed",
    StopAccount: "stop",
}


NOT_NOW_MS: Final = 500
"""How long a job that must run alone is left to other workers, milliseconds."""


class Answer(msgspec.Struct, frozen=True):
    """A call that has ended, not looked at yet."""

    flight: ClaimedJob
    reply: Reply | Broken


class Conclusion(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be told: the lane of the call, and the queue (release) or the store (ending)."""

    settlement: Settlement
    release: Release | None = None
    ending: Ending | None = None


class Concluder:
    """Draws conclusions; shared by all flights of a process."""

    def __init__(
        self,
        settings: Settings,
        emit: Emit,
        rng: random.Random,
        alone_in_lane: Callable[[ClaimedJob], bool],
    ) -> None:
        """Take the randomness of waits, and who knows whether a flight's lane has no other."""
        self._settings = settings
        self._emit = emit
        self._rng = rng
        self._alone_in_lane = alone_in_lane

    def answered(self, answer: Answer, now: float) -> Conclusion:
        """Classify an answer and decide; `now` is epoch seconds, for dates in its headers."""
        flight, reply = answer.flight, answer.reply
        outcome = classify(reply, now)
        settlement = _settlement(flight, outcome, limits_in(reply.headers))
        return self._decided(flight, outcome, settlement)

    def uncalled(self, flight: ClaimedJob, outcome: Fail | Retry) -> Conclusion:
        """Decide about a flight that found no call to make: its files are refused, or away."""
        if isinstance(outcome, Fail):
            return self._ended(flight, JobState.FAILED, error=outcome.error)
        return self._decided(flight, outcome, flight.settlement("unsent"))

    def unfit(self, flight: ClaimedJob) -> Conclusion | None:
        """End what must not be paid for: aborted, expired, invalid, poison; None for all else."""
        if flight.claimed.verdict == "aborted":
            return self._ended(flight, JobState.CANCELLED)
        if flight.problem is not None:
            error = flight.problem
            if error.type in {"poison", "invalid_payload"}:
                self._emit(JobQuarantined(job_id=flight.claimed.id, reason=error.message))
            return self._ended(flight, JobState.FAILED, error=error)
        if flight.expired:
            return self._ended(flight, JobState.EXPIRED)
        return None

    def cut_off(self, flight: ClaimedJob) -> Conclusion:
        """Conclude a flight whose call was cut off: aborted by its user, lost, or given back."""
        if flight.ending == "abort":
            attempt = flight.attempt("cancelled", counted=False)
            return self._ended(flight, JobState.CANCELLED, attempt)
        settlement = flight.settlement("unsent")
        if flight.ending == "lost":
            return Conclusion(settlement=settlement)
        attempt = flight.attempt("snoozed", counted=False, error_type="shutdown", wait_ms=0)
        decision = retry.Release(state=JobState.SNOOZED, wait_ms=0, counted=False)
        return Conclusion(settlement=settlement, release=_release(flight, decision, attempt))

    def not_now(self, flight: ClaimedJob) -> Conclusion:
        """Give a flight back that was not called: one that must run alone, beside another one."""
        decision = retry.Release(state=JobState.SNOOZED, wait_ms=NOT_NOW_MS, counted=False)
        release = _release(flight, decision, None)
        return Conclusion(settlement=flight.settlement("unsent"), release=release)

    def _decided(self, flight: ClaimedJob, outcome: Outcome, settlement: Settlement) -> Conclusion:
        claimed, refused = flight.claimed, isinstance(outcome, Snooze)
        decision = retry.decide(
            outcome,
            attempts=claimed.counted + 1,
            refusals=claimed.refusals + 1,
            alone=refused and self._alone_in_lane(flight),
            max_attempts=self._settings.max_attempts,
            rng=self._rng,
        )
        if isinstance(decision, retry.Store):
            attempt = _attempt(flight, outcome, decision.status, counted=True)
            message = outcome if isinstance(outcome, Succeeded) else None
            ending = self._ending(flight, decision.status, attempt, message, decision.error)
            return Conclusion(settlement=settlement, ending=ending)
        counted, wait_ms = decision.counted, decision.wait_ms
        attempt = _attempt(flight, outcome, decision.state, counted=counted, wait_ms=wait_ms)
        self._tell(flight, attempt)
        release = _release(flight, decision, attempt, refused=refused)
        return Conclusion(settlement=settlement, release=release)

    def _tell(self, flight: ClaimedJob, attempt: Attempt) -> None:
        job_id, message = flight.claimed.id, attempt.error_message or ""
        wait = attempt.wait_ms or 0
        if attempt.counted:
            kind = attempt.error_type or ""
            self._emit(CallFailed(job_id=job_id, error_type=kind, message=message, wait_ms=wait))
        else:
            self._emit(CallRefused(job_id=job_id, message=message, wait_ms=wait))

    def _ended(
        self,
        flight: ClaimedJob,
        status: JobState,
        attempt: Attempt | None = None,
        error: ErrorInfo | None = None,
    ) -> Conclusion:
        """Return the end of a flight without an answer."""
        ending = self._ending(flight, status, attempt, None, error)
        return Conclusion(settlement=flight.settlement("unsent"), ending=ending)

    def _ending(
        self,
        flight: ClaimedJob,
        status: JobState,
        attempt: Attempt | None,
        message: Succeeded | None,
        error: ErrorInfo | None,
    ) -> Ending:
        row = flight.result(
            status,
            attempt,
            message=message,
            error=error,
            keep_params=self._settings.keep_params,
            rehearsal=self._settings.rehearsal,
        )
        return Ending(row=row, finish=flight.finish(row))


def _settlement(
    flight: ClaimedJob, outcome: Outcome, told: dict[str, tuple[int, int]]
) -> Settlement:
    if isinstance(outcome, Succeeded):
        return flight.settlement("ok", outcome.usage, told)
    item = flight.settlement(SETTLED_AS.get(type(outcome), "rejected"), None, told)
    wait_s, refused = outcome.retry_after_s, isinstance(outcome, Snooze)
    fix = f" ({outcome.error.fix})" if outcome.error.fix else ""
    return msgspec.structs.replace(
        item,
        gate=gate_named(outcome.error.message) if refused else None,
        retry_after_ms=None if wait_s is None else int(wait_s * 1000),
        reason=f"{outcome.error.type}: {outcome.error.message}{fix}",
    )


def _release(
    flight: ClaimedJob, decision: retry.Release, attempt: Attempt | None, *, refused: bool = False
) -> Release:
    claimed = flight.claimed
    return Release(
        id=claimed.id,
        token=claimed.token,
        queue=claimed.queue,
        state="retrying" if decision.state is JobState.RETRYING else "snoozed",
        wait_ms=decision.wait_ms,
        counted=int(decision.counted),
        refused=int(refused),
        attempt=msgspec.json.encode(attempt).decode() if attempt else "",
    )


def _attempt(
    flight: ClaimedJob,
    outcome: Outcome,
    state: JobState,
    *,
    counted: bool,
    wait_ms: int | None = None,
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
