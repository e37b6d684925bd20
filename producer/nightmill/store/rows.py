"""Turns a Result into a row of plain columns, and a row into a Result.

`to_values` and `from_row` take whatever they are given: a hostile value costs itself, not the row.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from nightmill.queue.keys import SINGLES
from nightmill.records.api import NO_API, Api
from nightmill.records.message import Message
from nightmill.records.result import COUNTS, Attempt, Bill, ErrorInfo, Result, Usage, trimmed
from nightmill.records.state import TERMINAL, JobState
from nightmill.store.bounds import (
    batch_key,
    bounded,
    clean,
    date_ms,
    fits,
    job_key,
    without_nul,
)
from nightmill.store.schema import RESULTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from nightmill.store.connection import Row

T = TypeVar("T")

_encode = msgspec.json.Encoder().encode
UNKNOWN: Final = ErrorInfo(type="unknown", message="no error was recorded")
"""The error of a failed row that has none."""

_attempts = msgspec.json.Decoder(tuple[Attempt, ...])
_error = msgspec.json.Decoder(ErrorInfo)
_bill = msgspec.json.Decoder(Bill)
_reasons = msgspec.json.Decoder(dict[str, int])

_api = msgspec.json.Decoder(Api)

_STATES: Final = {state.value: state for state in TERMINAL}
COLUMNS: Final = tuple(RESULTS)


def to_row(result: Result) -> dict[str, Any]:
    """Return `result` as column name -> plain value; JSON columns hold text."""
    return dict(zip(COLUMNS, to_values(result), strict=True))


def to_values(result: Result) -> tuple[object, ...]:
    """Return the values of `result`'s row, in the order of COLUMNS; each fits into its column."""
    if fits(result):
        try:
            return _values(result)
        except UnicodeEncodeError:  # a lone surrogate in an error or an attempt
            pass
    return _values(bounded(result))


def _values(result: Result) -> tuple[object, ...]:
    usage = result.usage
    return (
        job_key(result.job_id),
        result.run,
        result.status.value,
        batch_key(result.batch or SINGLES),
        result.seq or 0,
        _plain(result.custom_id),
        _plain(result.model),
        _plain(result.request_hash),
        _plain(result.request_id),
        _plain(result.stop_reason),
        _plain(result.worker),
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
        _encode(result.error).decode() if result.error else None,
        _encode(trimmed(result.attempts)).decode(),
        _text(result.params),
        _text(result.message),
        _plain(result.lane),
        result.queue_ms,
        result.call_ms,
        _encode(result.snooze_reasons).decode() if result.snooze_reasons else None,
        result.turns,
        _encode(result.api).decode() if result.api else None,
        usage.cache_creation_1h_input_tokens,
        usage.web_search_requests,
        _plain(usage.billed_as) or None,
        _encode(result.cost_parts).decode() if result.cost_parts else None,
    )


def from_row(row: Row) -> Result:
    """Return the Result of `row`, which has every column of `results`."""
    return Result(
        job_id=row["job_id"],
        run=row["run"],
        status=state_of(row["status"]),
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
        snooze_reasons=_read(row["snooze_reasons"], _reasons.decode, {}),
        usage=usage_of(row),
        cost=row["cost"],
        cost_parts=_read(row["cost_parts"], _bill.decode, None),
        enqueued_at=date_ms(row["enqueued_at"]),
        started_at=None if row["started_at"] is None else date_ms(row["started_at"]),
        finished_at=date_ms(row["finished_at"]),
        error=error_of(row["error"]),
        attempts=attempts_of(row["attempts"]),
        params=_raw(row["params"]),
        message=None if row["message"] is None else Message(msgspec.Raw(row["message"])),
        lane=row["lane"],
        queue_ms=row["queue_ms"],
        call_ms=row["call_ms"],
        turns=row["turns"],
        api=_read(row["api"], _api.decode, NO_API),
    )


def state_of(column: str) -> JobState:
    """Return the state in the column `status`; an unknown one, of a newer version, is failed."""
    return _STATES.get(column, JobState.FAILED)


def error_of(column: str | None) -> ErrorInfo | None:
    """Return the error in the column `error`; one that cannot be read is shown as it is."""
    if not column:
        return None
    try:
        return _error.decode(column)
    except (msgspec.MsgspecError, RecursionError):
        return msgspec.structs.replace(UNKNOWN, message=column)


def attempts_of(column: str) -> tuple[Attempt, ...]:
    """Return the attempts in the column `attempts`; () when they cannot be read."""
    return _read(column, _attempts.decode, ())


def _read(column: str | None, decode: Callable[[str], T], otherwise: T) -> T:
    """Return what a JSON column holds; `otherwise` when it is empty or cannot be read."""
    try:
        return decode(column) if column else otherwise
    except (msgspec.MsgspecError, RecursionError):
        return otherwise


def usage_of(row: Row) -> Usage:
    """Return what the columns of `row` say about its usage."""
    return Usage(
        **{field: int(row[field] or 0) for field in COUNTS}, billed_as=row["billed_as"] or ""
    )


def succeeding(old: Result, new: Result) -> Result:
    """Return `new`, a later run of `old`'s job, with the history of the earlier runs in front.

    Attempts are numbered on from `old`'s, and the exact counts are added up.
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


def _plain(text: str | None) -> str | None:
    return text and clean(text)


def _text(json: msgspec.Raw | Message | None) -> str | None:
    """Decode JSON for a text column; bytes that are not UTF-8 and NULs are replaced."""
    return None if json is None else without_nul(bytes(json).decode("utf-8", "replace"))


def _raw(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text)
