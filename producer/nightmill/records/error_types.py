"""The error types of the Messages API, and the one of them that stands for any other type.

Rows keep the type that says the most: nightmill's own, or a gateway's. Programs that read results
with the models of the API's SDK know a closed list of types, so an exported row has one of these
where the API has it, and the other type beside it.
"""

from __future__ import annotations

import re
from typing import Final

STANDARD: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""The types that the SDK's models accept -> the status that belongs to them."""

LINKED_LIMIT: Final = "linked_organization_spend_limit"
"""Type of a job whose user profile may spend no more; jobs of other profiles go on."""
LINKED_BILLING: Final = "linked_organization_billing_unavailable"
"""Type of a job whose user profile cannot be billed; jobs of other profiles go on."""
LINKED: Final = frozenset({LINKED_LIMIT, LINKED_BILLING})
"""Types that concern one user profile, and say nothing about the jobs of others."""

_STANDARD_OF: Final = {
    "context_exceeded": "invalid_request_error",
    "exceeds_limit": "rate_limit_error",
    "input_cut": "invalid_request_error",
    "invalid_payload": "invalid_request_error",
    **dict.fromkeys(LINKED, "invalid_request_error"),
    "rate_limit_exceeded": "rate_limit_error",
    "refused": "invalid_request_error",
    "request_too_large": "invalid_request_error",
    "timeout": "timeout_error",
    "truncated": "invalid_request_error",
}
_OF_STATUS: Final = {status: name for name, status in STANDARD.items()} | {
    **dict.fromkeys((408, 499, 522, 524, 598, 599), "timeout_error"),
    407: "authentication_error",
    503: "overloaded_error",
}
_HTTP: Final = re.compile(r"http_(\d{3})")
_ATTACHMENT: Final = "attachment_"
_CLIENT_ERRORS: Final = range(300, 500)


def standard_type(kind: str, status: int | None = None) -> str:
    """Return the API's error type for `kind`, the type of a row; `status` is the last HTTP status.

    A type of which nothing is known goes by the status: it was a gateway that answered.
    """
    if kind in STANDARD:
        return kind
    if kind in _STANDARD_OF:
        return _STANDARD_OF[kind]
    if kind.startswith(_ATTACHMENT):
        return "invalid_request_error"
    if named := _HTTP.fullmatch(kind):
        status = int(named[1])
    if status in _OF_STATUS:
        return _OF_STATUS[status]
    return "invalid_request_error" if status in _CLIENT_ERRORS else "api_error"
