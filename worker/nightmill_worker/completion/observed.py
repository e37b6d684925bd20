"""What listeners learn of a group of decisions; a call's event is built when one asks for it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from nightmill_worker.events import JobFacts
from nightmill_worker.group_events import CallEnded, CallsEnded
from nightmill_worker.messages.outcome import Succeeded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nightmill.records.result import Result
    from nightmill_worker.jobs.claimed_job import ClaimedJob
    from nightmill_worker.jobs.decision import Decision
    from nightmill_worker.messages.outcome import Outcome


def calls_ended(decisions: Sequence[Decision]) -> CallsEnded:
    """Return the event of a group."""
    return CallsEnded(calls=partial(_calls, decisions))


def _calls(decisions: Sequence[Decision]) -> Iterator[CallEnded]:
    for each in decisions:
        if each.claimed is not None and each.outcome is not None:
            yield _call(each, each.claimed, each.outcome)


def _call(decision: Decision, claimed: ClaimedJob, outcome: Outcome) -> CallEnded:
    granted = claimed.granted
    succeeded = outcome if isinstance(outcome, Succeeded) else None
    return CallEnded(
        job_id=granted.id,
        batch=claimed.job.batch or "",
        attempt=granted.calls,
        request_id=outcome.request_id or "",
        account=claimed.account,
        lane=granted.lane,
        model=granted.model,
        state=_state(decision),
        status=outcome.status,
        error_type="" if isinstance(outcome, Succeeded) else outcome.error.type,
        started_at=claimed.started_at,
        duration_ms=claimed.call_ms,
        usage=outcome.usage,
        response_model=succeeded.model if succeeded else "",
        finish_reason=(succeeded.stop_reason or "") if succeeded else "",
        traceparent=claimed.job.traceparent or "",
    )


def _state(decision: Decision) -> str:
    if decision.ending is not None:
        return str(decision.ending.finish.status)
    if decision.continuation is not None:
        return "continued"
    return decision.release.state if decision.release is not None else "lost"


def facts_of_row(row: Result) -> JobFacts:
    """Return what names a job in events."""
    account, _, lane = (row.lane or "").partition(":")
    return JobFacts(
        job_id=row.job_id,
        batch=row.batch or "",
        attempt=row.attempt_count + row.snooze_count,
        request_id=row.request_id or "",
        account=account,
        lane=lane,
    )
