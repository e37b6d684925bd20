"""A Result as a row of plain columns, and back; and how a later run takes over an earlier row."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, TypeAlias

import msgspec
from sqlalchemy import RowMapping

from nightmill.queue.keys import SINGLES
from nightmill.records.result import Attempt, ErrorInfo, Result, Usage, trimmed
from nightmill.records.state import JobState
from nightmill.store.schema import results

_encode = msgspec.json.Encoder().encode
Row: TypeAlias = RowMapping | dict[str, Any]
"""The columns of a row by name, from the store or from a spool."""

_attempts = msgspec.json.Decoder(tuple[Attempt, ...])
_error = msgspec.json.Decoder(ErrorInfo)
_reasons = msgspec.json.Decoder(dict[str, int])

COLUMNS: Final = tuple(column.name for column in results.c)
_NUL: Final = "\0"


def to_row(result: Result) -> dict[str, Any]:
    """Return `result` as column name -> plain value; JSON columns hold text."""
    return dict(zip(COLUMNS, to_values(result), strict=True))


def to_values(result: Result) -> tuple[object, ...]:
    """Return the values of `result`'s row, in the order of COLUMNS."""
    usage = result.usage
    return (
        storable(result.job_id),
        result.run,
        result.status.value,
        storable(result.batch or SINGLES),
        result.seq or 0,
        _plain(result.custom_id),
        _plain(result.model),
        result.request_hash,
        _plain(result.request_id),
        _plain(result.stop_reason),
        result.worker,
        result.attempt_count,
        result.snooze_count,
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_input_tokens,
        usage.cache_creation_input_tokens,
        result.cost,
        result.enqueued_at,
        result.started_at,
        result.finished_at,
        _text(_encode(result.error)) if result.error else None,
        _text(_encode(trimmed(result.attempts))),
        _text(result.params),
        _text(result.message),
        _plain(result.lane),
        result.queue_ms,
        result.call_ms,
        _text(_encode(result.snooze_reasons)) if result.snooze_reasons else None,
    )


def from_row(row: Row) -> Result:
    """Return the Result that `row`, with every column of `results`, was made from."""
    return Result(
        job_id=row["job_id"],
        run=row["run"],
        status=JobState(row["status"]),
        batch=row["batch"] or None,
        seq=row["seq"] or None,
        custom_id=row["custom_id"],
        model=row["model"],
        request_hash=row["request_hash"],
        request_id=row["request_id"],
        stop_reason=row["stop_reason"],
        worker=row["worker"],
        attempt_count=row["attempt_count"],
        snooze_count=row["snooze_count"],
        snooze_reasons=_reasons.decode(row["snooze_reasons"]) if row["snooze_reasons"] else {},
        usage=usage_of(row),
        cost=row["cost"],
        enqueued_at=row["enqueued_at"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        error=error_of(row["error"]),
        attempts=attempts_of(row["attempts"]),
        params=_raw(row["params"]),
        message=_raw(row["message"]),
        lane=row["lane"],
        queue_ms=row["queue_ms"],
        call_ms=row["call_ms"],
    )


def error_of(column: str | None) -> ErrorInfo | None:
    """Return what the column `error` says."""
    return _error.decode(column) if column else None


def attempts_of(column: str) -> tuple[Attempt, ...]:
    """Return what the column `attempts` says."""
    return _attempts.decode(column)


def usage_of(row: Row) -> Usage:
    """Return the four token columns of `row`, or of a sum over rows."""
    return Usage(**{field: int(row[field] or 0) for field in Usage.__struct_fields__})


def succeeding(old: Result, new: Result) -> Result:
    """Return `new`, a later run of `old`'s job, with the story of the earlier runs in front.

    The attempts are numbered on from `old`'s, and the exact counts add up.
    """
    last = old.attempts[-1].n if old.attempts else 0
    later = tuple(msgspec.structs.replace(each, n=last + each.n) for each in new.attempts)
    return msgspec.structs.replace(
        new,
        attempts=trimmed(old.attempts + later),
        attempt_count=old.attempt_count + new.attempt_count,
        snooze_count=old.snooze_count + new.snooze_count,
        snooze_reasons=Counter(old.snooze_reasons) + Counter(new.snooze_reasons),
        call_ms=old.call_ms + new.call_ms,
    )


def storable(text: str) -> str:
    """Return `text` without the one character that PostgreSQL cannot keep, a NUL."""
    return text.replace(_NUL, "\N{REPLACEMENT CHARACTER}") if _NUL in text else text


def _plain(text: str | None) -> str | None:
    return text and storable(text)


def _text(json: bytes | msgspec.Raw | None) -> str | None:
    """Decode JSON for a text column; a stray byte must not cost the whole group its commit."""
    return None if json is None else bytes(json).decode("utf-8", "replace")


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text)
