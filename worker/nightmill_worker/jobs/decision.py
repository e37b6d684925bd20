"""What follows from a call: ONE decision with all that Redis and the store must learn of it.

Pure: no I/O and no events are emitted here. The settler asks for many decisions at a time, since
the same little code for each job runs faster in a row than between two calls.
"""

from __future__ import annotations

import time
import traceback
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.pricing.cost import Prices
from nightmill.records.result import ErrorInfo, Result, Usage
from nightmill.records.state import JobState
from nightmill.safety.redaction import Secrets
from nightmill_worker.checks.messages import Verdict
from nightmill_worker.checks.output_checks import PASSED
from nightmill_worker.events import CallFailed, CallRefused, Event, JobFaulted, JobQuarantined
from nightmill_worker.jobs.claimed_job import ClaimedJob
from nightmill_worker.jobs.known_limits import KnownLimits
from nightmill_worker.jobs.retry import REFUSALS, Again, End, next_step
from nightmill_worker.jobs.rows import (
    attempt_of,
    finish_of,
    past_of,
    release_of,
    row_of,
    settlement_of,
)
from nightmill_worker.jobs.settlements import outcome_settled
from nightmill_worker.jobs.turns import Continuation, moved, next_step_of
from nightmill_worker.limiter.headers import limits_in
from nightmill_worker.messages.classify import classify
from nightmill_worker.messages.hidden import without_secrets
from nightmill_worker.messages.outcome import (
    Broken,
    Fail,
    Reply,
    Retry,
    Snooze,
    Succeeded,
)
from nightmill_worker.queue.records import Finish, Release, Settlement

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from nightmill.records.result import Attempt
    from nightmill.settings import Settings
    from nightmill_worker.jobs.defects import Verdict as DefectVerdict
    from nightmill_worker.messages.outcome import Outcome

POSTPONED_MS: Final = 500
"""How long such a job waits, milliseconds."""
INTERNAL: Final = "internal_error"
"""Error type of what nightmill itself did wrong."""
_OK: Final = range(200, 300)


class Answered(msgspec.Struct, frozen=True):
    """A call that has ended; its reply is not interpreted yet.

    `verdict` says whether its output passed the checks of the job, as far as it has any.
    """

    claimed: ClaimedJob
    reply: Reply | Broken
    verdict: Verdict = PASSED


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """A job's end: its row (None when the row is stored already) and its finish."""

    row: Result | None
    finish: Finish


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to carry out: the lane's settlement, and what becomes of the job.

    It is released to its queue, has an ending to store, or goes on from its answer: a continuation
    to store and to release. A job that another worker took over has none of them. `event` is what
    an operator may want to know.
    """

    settlement: Settlement
    release: Release | None = None
    ending: Ending | None = None
    continuation: Continuation | None = None
    event: Event | None = None
    claimed: ClaimedJob | None = None
    """With `outcome`, the call that ended; None when there was none."""
    outcome: Outcome | None = None


class Decider:
    """Decides for all jobs of one process."""

    def __init__(self, settings: Settings, rng: random.Random) -> None:
        """Take the randomness of waits."""
        self._settings = settings
        self._secrets = Secrets.of(settings)
        self._rng = rng
        self._prices = Prices(settings.prices)
        self._attempt_of = partial(attempt_of, prices=self._prices)
        self._limits = KnownLimits(settings)

    def before_call(self, claimed: ClaimedJob) -> Decision | None:
        """End a job that must not be paid for: aborted, expired, invalid, poison. None: call it."""
        if claimed.granted.verdict == "aborted":
            return self._uncalled_end(claimed, JobState.CANCELLED)
        if (error := claimed.problem) is not None:
            event = None
            if error.type in {"poison", "invalid_payload"}:
                event = JobQuarantined(reason=error.message, **claimed.facts)
            return self._uncalled_end(claimed, JobState.FAILED, error=error, event=event)
        if claimed.expired:
            return self._uncalled_end(claimed, JobState.EXPIRED)
        if claimed.turns and (release := moved(claimed)) is not None:
            return Decision(settlement=settlement_of(claimed, "unsent"), release=release)
        return None

    def without_call(self, claimed: ClaimedJob, outcome: Fail | Retry) -> Decision:
        """Decide about a job whose files are refused (Fail) or cannot be read now (Retry)."""
        outcome = self._secrets.hidden_in(outcome)
        if isinstance(outcome, Fail):
            return self._uncalled_end(claimed, JobState.FAILED, error=outcome.error)
        return self._decided(claimed, outcome, settlement_of(claimed, "unsent"))

    def begun(self, claimed: ClaimedJob, headers: Mapping[str, str]) -> Decision | None:
        """Decide about an answer that begins: its headers are passed on when they hold news."""
        reported = limits_in(headers, claimed.granted.lane)
        if not self._limits.is_news(claimed.granted.lane, reported, time.monotonic()):
            return None
        return Decision(settlement=settlement_of(claimed, "begun", reported=reported))

    def after_call(self, answered: Answered, now: float) -> Decision:
        """Classify a reply and decide; `now` is epoch seconds, for dates in its headers.

        Never raises: a reply that nightmill cannot interpret is stored as it came, since a second
        call would be paid again.
        """
        claimed, reply = answered.claimed, answered.reply
        try:
            outcome = without_secrets(classify(reply, now), self._secrets)
            reported = limits_in(reply.headers, claimed.granted.lane)
            if reported:
                self._limits.note(claimed.granted.lane, reported)
            settlement = outcome_settled(claimed, outcome, reported)
            verdict = answered.verdict
            if verdict is not PASSED:
                verdict = self._secrets.hidden_in(verdict)
            return self._decided(claimed, outcome, settlement, verdict)
        except Exception as error:  # noqa: BLE001 - the answer is paid for, whatever is wrong with it
            return self._as_it_came(claimed, reply, error)

    def cut_off(self, claimed: ClaimedJob) -> Decision:
        """Decide about a call that was cut off: aborted by its user, lost, or given back."""
        settlement = settlement_of(claimed, "unsent")
        if claimed.cut_off_by == "lost":
            return Decision(settlement=settlement)
        if claimed.cut_off_by == "abort":
            attempt = attempt_of(claimed, "cancelled", counted=False)
            return self._uncalled_end(claimed, JobState.CANCELLED, attempt)
        why = ErrorInfo(type="shutdown", message="")
        attempt = attempt_of(claimed, "snoozed", counted=False, error=why, wait_ms=0)
        again = Again(state=JobState.SNOOZED, wait_ms=0, counted=False)
        return Decision(settlement=settlement, release=release_of(claimed, again, attempt))

    def postponed(self, claimed: ClaimedJob) -> Decision:
        """Give back a job about which nothing could be decided."""
        again = Again(state=JobState.SNOOZED, wait_ms=POSTPONED_MS, counted=False)
        release = release_of(claimed, again, None)
        return Decision(settlement=settlement_of(claimed, "unsent"), release=release)

    def deleted(self, claimed: ClaimedJob) -> Decision:
        """End a job whose request was deleted with its Message Batch: it is cancelled."""
        return self._uncalled_end(claimed, JobState.CANCELLED)

    def stored_before(self, claimed: ClaimedJob, row: Result) -> Decision:
        """Finish a job whose row was committed by an earlier call: it is not paid for twice."""
        ending = Ending(row=None, finish=finish_of(claimed, row, prices=self._prices, again=True))
        return Decision(settlement=settlement_of(claimed, "unsent"), ending=ending)

    def faulted(
        self, claimed: ClaimedJob, error: BaseException, verdict: DefectVerdict
    ) -> Decision:
        """Release or fail a job under which nightmill itself raised `error` before the call."""
        info = ErrorInfo(
            type=INTERNAL,
            message=self._secrets.hidden(f"{type(error).__name__}: {error}"),
            fix="look in the worker's log for the traceback, and report it",
        )
        event = _faulted(claimed, info, error)
        if verdict.fail:
            attempt = attempt_of(claimed, JobState.FAILED, counted=False, error=info)
            return self._uncalled_end(claimed, JobState.FAILED, attempt, error=info, event=event)
        wait_ms = verdict.wait_ms
        attempt = attempt_of(claimed, JobState.SNOOZED, counted=False, error=info, wait_ms=wait_ms)
        again = Again(state=JobState.SNOOZED, wait_ms=wait_ms, counted=False)
        release = release_of(claimed, again, attempt)
        settlement = settlement_of(claimed, "unsent")
        return Decision(settlement=settlement, release=release, event=event)

    def died(self, claimed: ClaimedJob, error: ErrorInfo, *, poison: bool) -> Decision:
        """Release a job under which its isolation process died, or end it as poison."""
        if not poison:
            attempt = attempt_of(claimed, "lost", counted=False, error=error, wait_ms=0)
            again = Again(state=JobState.SNOOZED, wait_ms=0, counted=False)
            release = release_of(claimed, again, attempt)
            return Decision(settlement=settlement_of(claimed, "unsent"), release=release)
        claimed.name()
        attempt = attempt_of(claimed, "lost", counted=False, error=error)
        event = JobQuarantined(reason=error.message, **claimed.facts)
        return self._uncalled_end(claimed, JobState.FAILED, attempt, error=error, event=event)

    def _decided(
        self,
        claimed: ClaimedJob,
        outcome: Outcome,
        settlement: Settlement,
        verdict: Verdict = PASSED,
    ) -> Decision:
        refused = isinstance(outcome, Snooze)
        accepted = next_step_of(claimed, outcome, verdict, self._prices)
        if isinstance(accepted, Continuation):
            return Decision(
                settlement=settlement, continuation=accepted, claimed=claimed, outcome=outcome
            )
        step = next_step(
            outcome,
            past_of(claimed),
            excess=self._excess(claimed, outcome, settlement) if refused else "",
            max_attempts=self._settings.max_attempts,
            outage_ms=round(self._settings.outage_s * 1000),
            rng=self._rng,
        )
        if accepted is not None:
            step = End(status=JobState.FAILED, error=self._secrets.hidden_in(accepted))
        if isinstance(step, End):
            attempt = self._attempt_of(claimed, step.status, counted=True, outcome=outcome)
            answer = outcome if isinstance(outcome, Succeeded) else None
            if isinstance(outcome, Fail) and outcome.raw:
                answer = _as_text(claimed, outcome.raw)
            ending = self._ending(claimed, step.status, attempt, answer, step.error)
            return Decision(settlement=settlement, ending=ending, claimed=claimed, outcome=outcome)
        attempt = self._attempt_of(
            claimed, step.state, counted=step.counted, outcome=outcome, wait_ms=step.wait_ms
        )
        failed = isinstance(outcome, Retry)
        release = release_of(claimed, step, attempt, refused=refused, failed=failed)
        event = _event(claimed, attempt, failed=failed)
        return Decision(
            settlement=settlement, release=release, event=event, claimed=claimed, outcome=outcome
        )

    def _excess(self, claimed: ClaimedJob, outcome: Outcome, settlement: Settlement) -> str:
        """Say by how much a job that is refused on and on exceeds a known limit, "" if not."""
        granted = claimed.granted
        if granted.refusals + 1 < REFUSALS or not isinstance(outcome, Snooze):
            return ""
        return self._limits.excess(
            granted.lane, claimed.body, outcome.error.message, settlement.reported
        )

    def _as_it_came(self, claimed: ClaimedJob, reply: Reply | Broken, error: Exception) -> Decision:
        """Store a reply that could not be interpreted: its body as it is, its usage unknown."""
        body = self._secrets.hidden_json(reply.body) if isinstance(reply, Reply) else b""
        problem = self._secrets.hidden(f"{type(error).__name__}: {error}")
        info = ErrorInfo(
            type=INTERNAL,
            message=f"the answer could not be interpreted: {problem}",
            fix="the answer is stored as it came; report it",
        )
        attempt = attempt_of(claimed, JobState.FAILED, counted=True, error=info)
        ending = self._ending(
            claimed, JobState.FAILED, attempt, _as_text(claimed, body) if body else None, info
        )
        paid = reply.status in _OK if reply.status else False
        settlement = settlement_of(claimed, "rejected" if paid else "failed")
        event = _faulted(claimed, info, error)
        return Decision(settlement=settlement, ending=ending, event=event)

    def _uncalled_end(
        self,
        claimed: ClaimedJob,
        status: JobState,
        attempt: Attempt | None = None,
        *,
        error: ErrorInfo | None = None,
        event: Event | None = None,
    ) -> Decision:
        """Return the end of a job without an answer."""
        ending = self._ending(claimed, status, attempt, None, error)
        settlement = settlement_of(claimed, "unsent")
        return Decision(settlement=settlement, ending=ending, event=event)

    def _ending(
        self,
        claimed: ClaimedJob,
        status: JobState,
        attempt: Attempt | None,
        answer: Succeeded | None,
        error: ErrorInfo | None,
    ) -> Ending:
        row = row_of(
            claimed,
            status,
            attempt,
            answer=answer,
            error=error,
            prices=self._prices,
            keep_params=self._settings.keep_params,
            rehearsal=self._settings.rehearsal,
        )
        return Ending(row=row, finish=finish_of(claimed, row, prices=self._prices))


def _as_text(claimed: ClaimedJob, body: bytes) -> Succeeded:
    """Return a paid answer that cannot be interpreted: its message is the body as a JSON string."""
    message = msgspec.json.encode(body.decode(errors="replace"))
    return Succeeded(message=message, usage=Usage(), model=claimed.granted.model)


def _faulted(claimed: ClaimedJob, info: ErrorInfo, error: BaseException) -> Event:
    lines = traceback.format_exception(error)
    return JobFaulted(problem=info.message, traceback="".join(lines), **claimed.facts)


def _event(claimed: ClaimedJob, attempt: Attempt, *, failed: bool) -> Event:
    """Return the event of a call that did not succeed and is tried again."""
    message, wait_ms, facts = attempt.error_message or "", attempt.wait_ms or 0, claimed.facts
    facts["request_id"] = attempt.request_id or ""
    if failed:
        kind = attempt.error_type or ""
        return CallFailed(error_type=kind, message=message, wait_ms=wait_ms, **facts)
    return CallRefused(message=message, wait_ms=wait_ms, **facts)
