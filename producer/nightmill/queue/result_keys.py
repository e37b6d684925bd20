"""The value of `arq:result:<id>`: written for an ended job, and read back as a Result."""

from __future__ import annotations

from typing import Final

import msgspec

from nightmill.errors import PayloadError, StoreMissingError
from nightmill.queue import wire
from nightmill.records.bounds import MAX_INT, DateMs, Int64, without_surrogates
from nightmill.records.message import Message
from nightmill.records.result import TOKENS, ErrorInfo, Result, Usage
from nightmill.records.state import JobState

MARKER: Final = frozenset({"stored", "status"})
"""The keys of `r` for a batch job that succeeded: its message is only in the store."""


class _Finished(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of arq's result dict that make a Result. `wire.Finished` says what they mean."""

    id: str
    et: DateMs
    st: DateMs
    ft: DateMs
    t: Int64
    s: bool
    r: msgspec.Raw


class _Error(msgspec.Struct, frozen=True, kw_only=True, rename={"error": "$error"}):
    """The value of `r` when the job did not succeed."""

    error: object = None
    """`failed` or `cancelled`, which `status` also says."""
    status: JobState = JobState.FAILED
    type: str = "error"
    message: str = ""
    fix: str | None = None


def kept(row: Result, queue: str) -> bytes:
    """Return arq's result dict for `row`, as JSON. `r` is a single job's message, or a marker."""
    result: object = None if row.message is None else row.message.raw
    if row.error is not None or row.message is None:
        error = row.error or ErrorInfo(type=row.status, message=f"the job was {row.status}")
        cancelled = row.status is JobState.CANCELLED
        result = {
            **wire.failure(without_surrogates(error.message), cancelled=cancelled),
            "type": without_surrogates(error.type),
            "fix": error.fix and without_surrogates(error.fix),
            "status": row.status,
        }
    elif row.batch is not None:
        result = {"stored": row.batch, "status": row.status}  # the keys are those of MARKER
    return wire.encode_finished(
        wire.Finished(
            t=row.attempt_count,
            et=row.enqueued_at,
            s=row.status is JobState.SUCCEEDED,
            r=result,
            st=row.started_at or row.finished_at,
            ft=row.finished_at,
            q=queue,
            id=row.job_id,
        )
    )


def from_redis(job_id: str, kept: bytes, *, looked_in: str | None = None) -> Result:
    """Return the Result that `arq:result:<id>` holds; its attempts are only in the store.

    Raises StoreMissingError for a batch job, whose message is only in the store (`looked_in` is
    where this process looks for it, None without the extra for stores), and PayloadError when the
    value is not one that nightmill wrote.
    """
    try:
        record = msgspec.json.decode(kept, type=_Finished)
        if record.s:
            return _succeeded(job_id, record, looked_in)
        error = msgspec.json.decode(record.r, type=_Error)
    except (msgspec.MsgspecError, ValueError, RecursionError) as problem:
        text = f"the result of {job_id} is not nightmill's: {problem}"
        raise PayloadError(text) from None
    info = ErrorInfo(type=error.type, message=error.message, fix=error.fix)
    return msgspec.structs.replace(_ended(job_id, record, error.status), error=info)


def _succeeded(job_id: str, record: _Finished, looked_in: str | None) -> Result:
    answer = msgspec.json.decode(record.r, type=dict[str, object])
    if answer.keys() == MARKER:
        raise StoreMissingError(_elsewhere(job_id, answer["status"], looked_in))
    model, stop_reason = answer.get("model"), answer.get("stop_reason")
    return msgspec.structs.replace(
        _ended(job_id, record, JobState.SUCCEEDED),
        message=Message(record.r),
        model=model if isinstance(model, str) else None,
        stop_reason=stop_reason if isinstance(stop_reason, str) else None,
        usage=_usage(answer.get("usage")),
    )


def _elsewhere(job_id: str, status: object, looked_in: str | None) -> str:
    """Return where the answer of a job is, and how to read it."""
    where = f"{job_id} {status}; its answer is in the workers' results store"
    if looked_in is None:
        return f"{where}, which needs: pip install 'nightmill[store]'"
    return (
        f"{where}, and this process looks in {looked_in}. Set NIGHTMILL_STORE_URL (or "
        "NIGHTMILL_DATA_DIR) to theirs"
    )


def _ended(job_id: str, record: _Finished, status: JobState) -> Result:
    return Result(
        job_id=job_id,
        status=status,
        attempt_count=record.t,
        enqueued_at=record.et,
        started_at=record.st,
        finished_at=record.ft,
    )


def _usage(given: object) -> Usage:
    """Return the usage of a Message, with 0 for what is missing or not a number."""
    if not isinstance(given, dict):
        return Usage()
    numbers = {name: given.get(name) for name in TOKENS}
    counts = {n: v for n, v in numbers.items() if type(v) is int and 0 < v <= MAX_INT}
    return msgspec.structs.replace(Usage(), **counts)
