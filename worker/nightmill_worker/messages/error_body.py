"""Reads the error in a body: the Messages API's own shape and those of gateways."""

from __future__ import annotations

from typing import Final

import msgspec

from nightmill.records.error_types import STANDARD
from nightmill_worker.messages.outcome import NOT_JSON
from nightmill_worker.messages.repair import repaired
from nightmill_worker.messages.text import beginning, clean

TEXT_CHARS: Final = 200
"""Characters kept of an error that is not JSON."""
MESSAGE_CHARS: Final = 2_000
"""Characters kept of the message of an error that is JSON."""
DETAILS_BYTES: Final = 4_096
"""Longest `details` of an error that are read."""

STATUS_OF_TYPE: Final = STANDARD | {
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_exceeded": 429,
}
"""The status that belongs to an error type: the API's own types, and one that gateways use."""
TYPE_OF_STATUS: Final = {status: name for name, status in reversed(STATUS_OF_TYPE.items())}
STATUSES: Final = range(400, 600)
"""Numbers that a `code` may have to count as a status."""
NO_TYPES: Final = frozenset({"", "None", "null"})


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """What an error's body says."""

    type: str | None = None
    """Its type, or a text `code` in place of an unknown type."""
    message: str = ""
    code: str = ""
    status: int | None = None
    """The status that belongs to `type`, or a numeric `code`."""
    error_code: str = ""
    """The API's `details.error_code`."""

    @property
    def codes(self) -> tuple[str, ...]:
        """Its codes. An endpoint takes them from a list: unlike texts, they repeat no prompt."""
        return self.error_code, self.code, self.type or ""


class _Error(msgspec.Struct):
    """An error object: the API's (`type`, `details`) or the other common shape (`code`)."""

    type: str | None = None
    message: str | None = None
    code: str | int | None = None
    details: msgspec.Raw = msgspec.Raw(b"")


class _ErrorBody(msgspec.Struct):
    """A body with an error in it."""

    error: _Error | str


class _Details(msgspec.Struct):
    """An error's `details`."""

    error_code: str = ""


_decode = msgspec.json.Decoder(_ErrorBody).decode
_decode_details = msgspec.json.Decoder(_Details).decode


def error_in(body: bytes) -> ErrorBody | None:
    """Return the error of a JSON body, or None."""
    try:
        error = _decode(body).error
    except NOT_JSON:
        try:
            error = _decode(repaired(body)).error
        except NOT_JSON:
            return None
    return _text_error(error) if isinstance(error, str) else _error(error)


def error_of(body: bytes) -> ErrorBody:
    """Return the error of any body. Of a text that is not JSON, its beginning is the message."""
    return error_in(body) or ErrorBody(message=beginning(body.strip(), TEXT_CHARS))


def _text_error(text: str) -> ErrorBody:
    return ErrorBody(message=clean(text, MESSAGE_CHARS))


def _error(error: _Error) -> ErrorBody:
    kind, code = error.type, str(error.code if error.code is not None else "")[:TEXT_CHARS]
    numeric = int(code) if code.isdecimal() and len(code) == len("429") else None
    status = STATUS_OF_TYPE.get(kind or "") or (numeric if numeric in STATUSES else None)
    if kind in NO_TYPES:
        kind = None
    if kind not in STATUS_OF_TYPE and isinstance(error.code, str) and not code.isdecimal():
        kind, status = error.code or kind, STATUS_OF_TYPE.get(error.code)
    return ErrorBody(
        type=clean(kind) if kind else None,
        message=clean(error.message or "", MESSAGE_CHARS),
        code=clean(code),
        status=status,
        error_code=_error_code(error.details),
    )


def _error_code(details: msgspec.Raw) -> str:
    """Return `error_code` of an error's details, "" when there is none."""
    if not 0 < len(bytes(details)) <= DETAILS_BYTES:
        return ""
    try:
        return clean(_decode_details(details).error_code)
    except NOT_JSON:
        return ""
