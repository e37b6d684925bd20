"""Errors as the Messages API answers them: a status and an envelope. Pure."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill import errors

if TYPE_CHECKING:
    from collections.abc import Mapping

OVERLOADED: Final = 529
RETRY_AFTER_S: Final = 5
"""How long a client waits before it asks again a gateway that lacks Redis or the store."""

_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    OVERLOADED: "overloaded_error",
}


class ApiError(Exception):
    """An error that a client gets: its status, its text, and headers beside it."""

    def __init__(
        self,
        status: int,
        message: str,
        headers: Mapping[str, str] | None = None,
        *,
        kind: str | None = None,
    ) -> None:
        """Take a status of HTTP or OVERLOADED; `message` is for the person at the client.

        `kind` is the API's type of error; None: the one that belongs to the status.
        """
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self._kind = kind

    @property
    def type(self) -> str:
        """The API's type of error."""
        client = self.status < HTTPStatus.INTERNAL_SERVER_ERROR
        other = "invalid_request_error" if client else "api_error"
        return self._kind or _TYPES.get(self.status, other)

    def envelope(self, request_id: str) -> bytes:
        """Return the body, JSON."""
        error = {"type": self.type, "message": str(self)}
        return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})


def invalid(message: str) -> ApiError:
    """Return the error of a request that breaks the contract; `message` names the field."""
    return ApiError(400, message)


def not_found(what: str) -> ApiError:
    """Return the error of an id that does not exist, or not for this caller."""
    return ApiError(404, f"{what}: not found; check the id, and the key that it was made with")


def api_error(error: Exception) -> ApiError | None:
    """Return what a client gets for an error of nightmill; None for one that is a defect."""
    found: ApiError | None = None
    match error:
        case ApiError():
            found = error
        case errors.PayloadTooLargeError():
            found = ApiError(413, str(error))
        case errors.InvalidParamsError() | errors.InvalidLimitError():
            found = invalid(str(error))
        case errors.BatchEndedError():
            name = error.batch.rpartition("/")[2]
            found = ApiError(409, f"batch: {name} is {error.flag} and takes no more jobs")
        case errors.QueueUnavailableError() | errors.QueueFullError():
            found = _away("the queue does not take or give anything now")
        case errors.StoreUnavailableError():
            found = _away("the results store does not answer now")
    return found


def _away(what: str) -> ApiError:
    """Return the error of a part that is away; its text shows no address."""
    return ApiError(OVERLOADED, f"{what}: try again", {"retry-after": str(RETRY_AFTER_S)})
