"""One result as a JSON line: the result of the Message Batches API, and nightmill's own fields.

Every row of a store becomes a line, whatever its message is.
"""

from __future__ import annotations

from typing import Final

import msgspec

from nightmill.records.bounds import date_of
from nightmill.records.error_types import standard_type
from nightmill.records.message import is_null, repaired
from nightmill.records.result import Attempt, ErrorInfo, Result
from nightmill.records.state import JobState

_UNKNOWN: Final = ErrorInfo(type="unknown", message="no error was recorded")


def to_line(result: Result) -> bytes:
    """Return `result` as one JSON line."""
    return msgspec.json.encode(nested(result)) + b"\n"


def nested(result: Result) -> dict[str, object]:
    """Return the fields of `result`; times are RFC 3339 in UTC, None where they are not known."""
    return {
        "custom_id": result.custom_id,
        "result": batches_result(result),
        "job_id": result.job_id,
        "run": result.run,
        "rehearsal": result.rehearsal,
        "model": result.model,
        "stop_reason": result.stop_reason,
        "error_type": result.error.type if result.error else None,
        "fix": result.error.fix if result.error else None,
        "answer": _not_accepted(result),
        "usage": result.usage,
        "usage_unknown": result.usage_unknown,
        "cost": result.cost,
        "cost_parts": result.cost_parts,
        "attempt_count": result.attempt_count,
        "snooze_count": result.snooze_count,
        "snooze_reasons": result.snooze_reasons,
        "attempts": [_attempt(each) for each in result.attempts],
        "request_id": result.request_id,
        "worker": result.worker,
        "enqueued_at": rfc3339(result.enqueued_at),
        "started_at": rfc3339(result.started_at),
        "finished_at": rfc3339(result.finished_at),
        "queue_ms": result.queue_ms,
        "call_ms": result.call_ms,
        "lane": result.lane,
    }


def batches_result(result: Result) -> dict[str, object]:
    """Return the object `result` as the Message Batches API has it: with its error types."""
    match result.status:
        case JobState.SUCCEEDED:
            message = result.message
            sent = None if message is None else embedded(bytes(message))
            return {"type": "succeeded", "message": sent}
        case JobState.CANCELLED:
            return {"type": "canceled"}
        case JobState.EXPIRED:
            return {"type": "expired"}
        case _:
            error = result.error or _UNKNOWN
            status = result.attempts[-1].status if result.attempts else None
            inner = {"type": standard_type(error.type, status), "message": error.message}
            return {"type": "errored", "error": {"type": "error", "error": inner}}


def _not_accepted(result: Result) -> object:
    """Return the Message of a job that failed: its answer was paid for, and not accepted."""
    if result.message is None or result.status is JobState.SUCCEEDED:
        return None
    return embedded(bytes(result.message))


def embedded(data: bytes) -> object:
    """Return the JSON of a message byte for byte, or without line breaks that would end the line.

    One that is not JSON is repaired: NaN becomes null and half a surrogate pair U+FFFD. What
    cannot be repaired becomes a string.
    """
    try:
        msgspec.json.decode(data, type=msgspec.Raw)
        if b"\n" in data or b"\r" in data:
            return msgspec.Raw(msgspec.json.format(data, indent=-1))
    except (msgspec.DecodeError, RecursionError):
        json = repaired(data)
        return data.decode(errors="replace") if json is None else msgspec.Raw(json)
    return msgspec.Raw(data)


def _attempt(attempt: Attempt) -> dict[str, object]:
    changed = {
        "started_at": rfc3339(attempt.started_at),
        "answer": None if is_null(attempt.answer) else embedded(bytes(attempt.answer)),
    }
    return msgspec.structs.asdict(attempt) | changed


def rfc3339(epoch_ms: int | None) -> str | None:
    """Return a time such as 2026-01-31T23:59:59.123Z; None when it is not known or no date."""
    time = date_of(epoch_ms)
    if time is None:
        return None
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
