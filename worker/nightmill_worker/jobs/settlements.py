"""What a lane and an account must know of a call's outcome. Pure."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill_worker.jobs.rows import reserved_usage, settlement_of
from nightmill_worker.limiter.headers import gate_named
from nightmill_worker.messages.outcome import Retry, Snooze, StopAccount, Succeeded, Suspect

if TYPE_CHECKING:
    from nightmill.records.result import ErrorInfo
    from nightmill_worker.jobs.claimed_job import ClaimedJob
    from nightmill_worker.jobs.rows import SettledAs
    from nightmill_worker.messages.outcome import Outcome
    from nightmill_worker.queue.records import Settlement

SETTLED_AS: Final[dict[type, SettledAs]] = {
    Succeeded: "ok",
    Snooze: "refused",
    Retry: "failed",
    StopAccount: "stop",
    Suspect: "suspect",
}


def outcome_settled(
    claimed: ClaimedJob, outcome: Outcome, reported: dict[str, tuple[int, int]]
) -> Settlement:
    """Return what the lane must know of a call that ended with `outcome`."""
    if isinstance(outcome, Succeeded):
        usage = reserved_usage(claimed) if outcome.usage_unknown else outcome.usage
        return settlement_of(claimed, "ok", usage=usage, reported=reported)
    settled_as = SETTLED_AS.get(type(outcome), "rejected")
    item = settlement_of(claimed, settled_as, reported=reported)
    wait_s, refused = outcome.retry_after_s, isinstance(outcome, Snooze)
    item = msgspec.structs.replace(
        item,
        gate=gate_named(outcome.error.message) if refused else None,
        retry_after_ms=None if wait_s is None else int(wait_s * 1000),
        reason=_reason(outcome.status, outcome.error),
    )
    if not isinstance(outcome, Suspect):
        return item
    # Words about money are the account's, unless the request has them too.
    words = outcome.words.lower().encode()
    return msgspec.structs.replace(
        item, job=claimed.granted.id, kind=outcome.kind, own=words in claimed.body.lower()
    )


def _reason(status: int | None, error: ErrorInfo) -> str:
    """Return why an account or a lane stops, and the fix, for a person."""
    if status == HTTPStatus.UNAUTHORIZED:
        why = f"the endpoint refused the key (401 {error.message})"
        fix = error.fix and f". {error.fix[:1].upper()}{error.fix[1:]}"
    else:
        why, fix = f"{error.type}: {error.message}", error.fix and f" ({error.fix})"
    return why + (fix or "")
