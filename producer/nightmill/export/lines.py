"""One result as a JSON line: the Message Batches result shape plus nightmill's own fields."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from nightmill.records.result import Attempt, ErrorInfo, Result
from nightmill.records.state import JobState

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNKNOWN: Final = ErrorInfo(type="unknown", message="no error was recorded")


def to_line(result: Result) -> bytes:
    """Return `result` as one JSON line."""
    return msgspec.json.encode(nested(result)) + b"\n"


def nested(result: Result) -> dict[str, object]:
    """Return `result` field by field; times are RFC 3339 in UTC, None where unknown."""
    return {
        "custom_id": result.custom_id,
        "result": _batches_result(result),
        "job_id": result.job_id,
        "run": result.run,
        "model": result.model,
        "stop_reason": result.stop_reason,
        "fix": result.error.fix if result.error else None,
        "usage": result.usage,
        "cost": result.cost,
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


def _batches_result(result: Result) -> dict[str, object]:
    """Return the `result` object of the Message Batches API."""
    match result.status:
        case JobState.SUCCEEDED:
            return {"type": "succeeded", "message": _one_line(result.message)}
        case JobState.CANCELLED:
            return {"type": "canceled"}
        case JobState.EXPIRED:
            return {"type": "expired"}
        case _:
            error = result.error or _UNKNOWN
            inner = {"type": error.type, "message": error.message}
            return {"type": "errored", "error": {"type": "error", "error": inner}}


def _one_line(message: msgspec.Raw | None) -> msgspec.Raw | None:
    """Return `message` untouched, or compacted where its own line breaks would end ours."""
    if message is None or not any(end in bytes(message) for end in (b"\n", b"\r")):
        return message
    return msgspec.Raw(msgspec.json.format(bytes(message), indent=-1))


def _attempt(attempt: Attempt) -> dict[str, object]:
    return msgspec.structs.asdict(attempt) | {"started_at": rfc3339(attempt.started_at)}


def rfc3339(epoch_ms: int | None) -> str | None:
    """Return 2026-01-31T23:59:59.123Z; 0 and None mean that the time is not known."""
    if not epoch_ms:
        return None
    moment = _EPOCH + timedelta(milliseconds=epoch_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
