"""Schemas of what clients get, as the shapes of batches and jobs make it. Pure data."""

from __future__ import annotations

from typing import Any, Final

from nightmill.records.message_batch import ID
from nightmill.records.state import JobState
from nightmill_gateway.openapi.requests import OBJECT, STRING, TEXT, listed, ref

Schema = dict[str, Any]

_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_TIME_OR_NULL: Final[Schema] = {"type": ["string", "null"], "format": "date-time"}
_OR_NULL: Final[Schema] = {"type": ["string", "null"]}
_NUMBER_OR_NULL: Final[Schema] = {"type": ["number", "null"]}
STATES: Final = ("queued", "in_flight", "retrying", "snoozed", *(state.value for state in JobState))
"""States of a job."""


def _object(optional: str = "", **properties: Schema) -> Schema:
    """Return the schema of an object that has all `properties` but the optional ones."""
    required = [name for name in properties if name not in optional.split()]
    return {"type": "object", "required": required, "properties": properties}


def _const(value: str) -> Schema:
    return {"const": value}


_ERROR: Final = _object(type=TEXT, message=TEXT)
ANSWERS: Final[Schema] = {
    "Error": _object(type=_const("error"), error=_ERROR, request_id=TEXT),
    "Health": _object(ok={"const": True}),
    "Message": _object(
        "id stop_reason stop_sequence",
        id=STRING,
        type=_const("message"),
        role=_const("assistant"),
        content=listed(_object(type=TEXT)),
        model=STRING,
        stop_reason=_OR_NULL,
        stop_sequence=_OR_NULL,
        usage=OBJECT,
    ),
    "MessageBatch": _object(
        id={"type": "string", "pattern": f"^{ID}$"},
        type=_const("message_batch"),
        processing_status={"enum": ["in_progress", "canceling", "ended"]},
        request_counts=_object(
            processing=_COUNT, succeeded=_COUNT, errored=_COUNT, canceled=_COUNT, expired=_COUNT
        ),
        created_at=_TIME,
        expires_at=_TIME,
        ended_at=_TIME_OR_NULL,
        cancel_initiated_at=_TIME_OR_NULL,
        archived_at=_TIME_OR_NULL,
        results_url=_OR_NULL,
    ),
    "MessageBatchList": _object(
        data=listed(ref("MessageBatch")),
        has_more={"type": "boolean"},
        first_id=_OR_NULL,
        last_id=_OR_NULL,
    ),
    "DeletedBatch": _object(id=TEXT, type=_const("message_batch_deleted")),
    "Result": {
        "oneOf": [
            _object(type=_const("succeeded"), message={"type": ["object", "string", "null"]}),
            _object(
                type=_const("errored"),
                error=_object(
                    "request_id", type=_const("error"), error=_ERROR, request_id=_OR_NULL
                ),
            ),
            _object(type={"enum": ["canceled", "expired"]}),
        ]
    },
    "ResultLine": _object(custom_id=STRING, result=ref("Result")),
    "Job": _object(
        id=TEXT,
        type=_const("job"),
        state={"enum": list(dict.fromkeys(STATES))},
        created_at=_TIME_OR_NULL,
        ended_at=_TIME_OR_NULL,
        attempts=listed(ref("Attempt")),
        result={"anyOf": [ref("Result"), {"type": "null"}]},
    ),
    "Attempt": _object(
        n={"type": ["integer", "null"]},
        started_at=_TIME_OR_NULL,
        duration_ms=_NUMBER_OR_NULL,
        outcome=_OR_NULL,
        counted={"type": ["boolean", "null"]},
        status={"type": ["integer", "null"]},
        error_type=_OR_NULL,
        error_message=_OR_NULL,
        request_id=_OR_NULL,
        wait_ms=_NUMBER_OR_NULL,
    ),
}
"""Name -> schema."""
