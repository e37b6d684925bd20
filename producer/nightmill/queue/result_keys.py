"""The value of `arq:result:<id>`: written for an ended job, and read back as a Result."""

from __future__ import annotations

import msgspec

from nightmill.errors import PayloadError, StoreMissingError
from nightmill.queue import wire
from nightmill.records.result import ErrorInfo, Result, Usage
from nightmill.records.state import JobState


class _Finished(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of arq's result dict that make a Result. `wire.Finished` says what they mean."""

    id: str
    et: int
    st: int
    ft: int
    t: int
    s: bool
    r: msgspec.Raw


class Marker(msgspec.Struct, frozen=True, kw_only=True, rename={"error": "$error"}):
    """The value of `r` when it is not a Message: where the message is, or why there is none."""

    status: JobState | None = None
    stored: str | None = None
    """The batch in whose rows the message is; None for a single job."""
    error: str | None = None
    """`failed` or `cancelled`; None when the job succeeded."""
    type: str = "error"
    message: str = ""
    fix: str | None = None


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    model: str | None = None
    stop_reason: str | None = None
    usage: Usage = Usage()


def kept(row: Result, queue: str) -> bytes:
    """Return arq's result dict for `row`, as JSON. `r` is a single job's message, or a marker."""
    result: object = row.message
    if row.error is not None or row.message is None:
        error = row.error or ErrorInfo(type=row.status, message=f"the job was {row.status}")
        cancelled = row.status is JobState.CANCELLED
        result = {
            **wire.failure(error.message, cancelled=cancelled),
            "type": error.type,
            "fix": error.fix,
            "status": row.status,
        }
    elif row.batch is not None:
        result = {"stored": row.batch, "status": row.status}
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


def from_redis(job_id: str, kept: bytes) -> Result:
    """Return the Result that `arq:result:<id>` holds; its attempts are only in the store.

    Raises StoreMissingError for a batch job, whose message is only in the store, and PayloadError
    when the value is not one that nightmill wrote.
    """
    try:
        record = msgspec.json.decode(kept, type=_Finished)
        marker = msgspec.json.decode(record.r, type=Marker)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        text = f"the result of {job_id} is not nightmill's: {error}"
        raise PayloadError(text) from None
    if marker.stored is not None:
        text = f"{job_id} is finished ({marker.status}); its message is in the results store: "
        raise StoreMissingError(text + "pip install 'nightmill[store]' and set STORE_URL")
    result = Result(
        job_id=job_id,
        status=marker.status or JobState.FAILED,
        attempt_count=record.t,
        enqueued_at=record.et,
        started_at=record.st,
        finished_at=record.ft,
    )
    if not record.s:
        info = ErrorInfo(type=marker.type, message=marker.message, fix=marker.fix)
        return msgspec.structs.replace(result, error=info)
    answer = msgspec.json.decode(record.r, type=_Message)
    return msgspec.structs.replace(
        result,
        status=JobState.SUCCEEDED,
        message=record.r,
        model=answer.model,
        stop_reason=answer.stop_reason,
        usage=answer.usage,
    )
