"""The API's objects: a batch, a page of batches, a line of results. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.export.lines import embedded, rfc3339
from nightmill.records.error_types import standard_type
from nightmill.records.message_batch import deadline
from nightmill.records.result import ErrorInfo
from nightmill.records.state import JobState

if TYPE_CHECKING:
    from nightmill.records.counts import Counts
    from nightmill.records.message_batch import MessageBatch
    from nightmill.store.message_batches import End

PATH: Final = "/v1/messages/batches"
_UNKNOWN: Final = ErrorInfo(type="unknown", message="no error was recorded")


def request_counts(batch: MessageBatch, counts: Counts) -> dict[str, int]:
    """Return how many requests are in each state; they add up to the batch's total."""
    if batch.ended_at is not None:
        ends = (batch.succeeded, batch.errored, batch.canceled, batch.expired)
    else:
        ends = (counts.succeeded, counts.failed, counts.cancelled, counts.expired)
    left, found = batch.total, {}
    for name, number in zip(("succeeded", "errored", "canceled", "expired"), ends, strict=True):
        found[name] = min(number or 0, left)
        left -= found[name]
    return {"processing": left, **found}


def message_batch(batch: MessageBatch, counts: Counts, base: str) -> dict[str, object]:
    """Return the API's MessageBatch; `base` is the gateway's URL as its client has it."""
    ended = batch.ended_at is not None
    canceling = batch.cancel_initiated_at is not None or counts.flag == "cancelled"
    return {
        "id": batch.batch,
        "type": "message_batch",
        "processing_status": "ended" if ended else "canceling" if canceling else "in_progress",
        "request_counts": request_counts(batch, counts),
        "created_at": rfc3339(batch.created_at),
        "expires_at": rfc3339(deadline(batch, counts)),
        "ended_at": rfc3339(batch.ended_at),
        "cancel_initiated_at": rfc3339(batch.cancel_initiated_at),
        "archived_at": None,
        "results_url": f"{base}{PATH}/{batch.batch}/results" if ended else None,
    }


def page(batches: list[dict[str, object]], *, more: bool) -> dict[str, object]:
    """Return the API's list of batches."""
    return {
        "data": batches,
        "has_more": more,
        "first_id": batches[0]["id"] if batches else None,
        "last_id": batches[-1]["id"] if batches else None,
    }


def result_line(end: End) -> bytes:
    """Return one line of the results."""
    return _encode({"custom_id": end.custom_id, "result": _result(end)}) + b"\n"


def _result(end: End) -> dict[str, object]:
    match end.status:
        case JobState.SUCCEEDED:
            sent = None if end.message is None else embedded(end.message.encode())
            return {"type": "succeeded", "message": sent}
        case JobState.CANCELLED:
            return {"type": "canceled"}
        case JobState.EXPIRED:
            return {"type": "expired"}
        case _:
            error = end.error or _UNKNOWN
            inner = {"type": standard_type(error.type, end.http_status), "message": error.message}
            outer = {"type": "error", "error": inner, "request_id": end.request_id}
            return {"type": "errored", "error": outer}


_encode = msgspec.json.Encoder().encode
