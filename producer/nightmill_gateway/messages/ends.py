"""What a client gets for the row of its job. Pure."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from nightmill.records.error_types import STANDARD, standard_type
from nightmill.records.state import JobState
from nightmill_gateway.answers.errors import OVERLOADED, ApiError
from nightmill_gateway.stopping import STOPS

if TYPE_CHECKING:
    from nightmill.records.message import Message
    from nightmill.records.result import Result

_BUSY: Final = (
    "the queue did not come to this request in time, and it is not called: try again later"
)
_PASSING: Final = {"rate_limit_error", "api_error", "timeout_error", "overloaded_error"}
BUSY_AFTER_S: Final = 30
"""How long a client waits before it asks again a gateway that is busy, seconds."""


def message_of(row: Result) -> Message:
    """Return the Message of a job. Raises ApiError with the status that the endpoint gave."""
    if row.status is JobState.SUCCEEDED and row.message is not None:
        return row.message
    if row.status is JobState.EXPIRED:
        raise ApiError(OVERLOADED, _BUSY, {"retry-after": str(BUSY_AFTER_S)})
    if row.status is JobState.CANCELLED or row.error is None:
        raise ApiError(500, f"the request was {row.status} before it had an answer")
    last = row.attempts[-1].status if row.attempts else None
    kind = standard_type(row.error.type, last)
    failed = last is not None and last >= HTTPStatus.BAD_REQUEST
    status = last if failed and last is not None else STANDARD[kind]
    raise ApiError(status, row.error.message, kind=kind)


def unanswered(row: Result) -> bool:
    """Tell whether another job may answer the request: none did, or with an error that passes."""
    if row.status is not JobState.FAILED or row.error is None:
        return row.status in {JobState.CANCELLED, JobState.EXPIRED}
    last = row.attempts[-1].status if row.attempts else None
    return standard_type(row.error.type, last) in _PASSING


class NotEndedError(ApiError):
    """The client's wait is over, and its job has not ended."""


def busy() -> NotEndedError:
    """Return the error of a request that was not called in time."""
    return NotEndedError(OVERLOADED, _BUSY, {"retry-after": str(BUSY_AFTER_S)})


def stopping() -> NotEndedError:
    """Return the error of a request that waits at a gateway that stops."""
    return NotEndedError(OVERLOADED, STOPS, {"retry-after": "1"})
