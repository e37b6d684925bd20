"""The one classifier: what an answer means for its job. Retries, limiter and breaker all use it.

The status decides, because proxies keep it. `error.type` decides in two cases: an error inside a
200 stream, and a 403, which may be about the account or about one request.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, TypeAlias

from nightmill.records.result import ErrorInfo
from nightmill_worker.messages.error_body import (
    MESSAGE_CHARS,
    TEXT_CHARS,
    TYPE_OF_STATUS,
    ErrorBody,
    error_in,
    error_of,
)
from nightmill_worker.messages.message import read_message
from nightmill_worker.messages.outcome import (
    NOT_JSON,
    PARTIAL_BYTES,
    SUCCESS,
    Broken,
    Fail,
    Outcome,
    Reply,
    Retry,
    Snooze,
    StopAccount,
)
from nightmill_worker.messages.retry_after import retry_after_s
from nightmill_worker.messages.text import beginning, clean, header

ACCOUNT_TYPES: Final = frozenset({"authentication_error", "billing_error", "permission_error"})
UNHINTED: Final = frozenset({401, 402, 403, 429})
"""Statuses for which x-should-retry is ignored."""

# An address such as ".../account/billing" in an ordinary refusal says nothing about credit.
SPENT_429: Final = re.compile(
    r"(?<!/)(?:spend|usage[ _]limit|credit|billing|insufficient_quota|quota exceeded until)",
    re.IGNORECASE,
)
SPENT_400: Final = re.compile(r"credit balance|usage limits|spend(?:ing)?[ _]limit", re.IGNORECASE)

FIXES: Final = {
    401: "correct API_KEY or AUTH_TOKEN, which the endpoint refuses, then run `nightmill resume`",
    402: "settle the account's billing, then run `nightmill resume`",
    404: "check `model`, which the endpoint does not know (if every job ends so, check BASE_URL)",
    413: "make the request smaller: shorten the messages, or send documents by URL",
    429: "raise the spend limit or wait until it is renewed, then run `nightmill resume`",
}
FIX_REQUEST: Final = "change the request as the message says and requeue it"
FIX_FORBIDDEN: Final = "allow the credential to do this or use another, then run `nightmill resume`"
FIX_CREDIT: Final = "add credit or raise the usage limit, then run `nightmill resume`"
FIX_REDIRECT: Final = "set BASE_URL to the endpoint itself: it answers with a redirect"
FIX_HINTED: Final = "change the request: the endpoint says that retrying it is of no use"
FIX_NOT_JSON: Final = "check BASE_URL: what answers there is not a Messages endpoint"
FIX_DEFECT: Final = "report this defect of nightmill; the answer is kept as it came"

# What to fix when there is no usable answer.
FIXES_OF_BREAKS: Final = {
    "connection_error": "check BASE_URL and the network",
    "input_cut": "raise `max_tokens`: the answer ended inside a tool's input",
    "response_too_large": "lower `max_tokens`, or raise the limit that the message names",
    "internal_error": FIX_DEFECT,
}
FINAL_BREAKS: Final = frozenset({"input_cut", "response_too_large"})
"""Breaks that a retry would repeat and pay again."""

_Unsuccessful: TypeAlias = type[Retry | Snooze | Fail | StopAccount]
_Meaning: TypeAlias = tuple[_Unsuccessful, str | None]  # an outcome and what to fix


def classify(reply: Reply | Broken, now: float) -> Outcome:
    """Return what `reply` means for its job. `now` is epoch seconds, for a retry-after date.

    Raises nothing. A 2xx that a defect of this program cannot read fails the job, with its body in
    `raw`: the call is paid and would end the same way.
    """
    try:
        if isinstance(reply, Broken):
            return _of_break(reply)
        if reply.status in SUCCESS:
            return _of_body(reply, now)
        return _of_error(reply, reply.status, error_of(reply.body), now)
    except Exception as error:  # noqa: BLE001 - one answer must not end a worker
        body = b"" if isinstance(reply, Broken) else reply.body
        return _of_defect(reply.status, body, describe(error))


def describe(error: BaseException) -> str:
    """Return an unexpected exception with the place that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].name}:{frames[-1].lineno}" if frames else ""
    return clean(f"{type(error).__name__}{place}: {error}", MESSAGE_CHARS)


def _of_defect(status: int | None, body: bytes, detail: str) -> Retry | Fail:
    error = ErrorInfo(type="internal_error", message=detail, fix=FIX_DEFECT)
    if status in SUCCESS:
        return Fail(error=error, status=status, raw=body, partial=beginning(body, PARTIAL_BYTES))
    return Retry(error=error, status=status)


def _of_break(broken: Broken) -> Retry | Fail:
    """Retry a call without a usable answer, unless the next one would break in the same place."""
    defect = broken.kind == "internal_error" and broken.status in SUCCESS
    error = ErrorInfo(
        type=broken.kind,
        message=clean(broken.detail, MESSAGE_CHARS),
        fix=FIXES_OF_BREAKS.get(broken.kind),
    )
    request_id = _request_id(broken.headers)
    if defect or broken.kind in FINAL_BREAKS:
        return Fail(
            error=error,
            status=broken.status,
            request_id=request_id,
            partial=broken.partial,
            raw=broken.partial.encode() if defect else b"",
        )
    return Retry(error=error, status=broken.status, request_id=request_id, partial=broken.partial)


def _of_body(reply: Reply, now: float) -> Outcome:
    """Accept a 2xx only with a whole Message. For an error in its place the type decides."""
    try:
        return read_message(reply.body, reply.status, _request_id(reply.headers))
    except NOT_JSON as wrong:
        error = error_in(reply.body)
        if error is not None:
            return _of_error(reply, error.status or 500, error, now)
        return _not_a_message(reply, str(wrong))


def _not_a_message(reply: Reply, wrong: str) -> Retry:
    """Return the outcome of a 2xx without a Message: a page of a proxy, or a body that was cut."""
    begins = beginning(reply.body.strip(), TEXT_CHARS)
    page = bool(begins) and not begins.startswith("{")
    error = ErrorInfo(
        type="invalid_response",
        message=f"not a Message: {begins if page else wrong}",
        fix=FIX_NOT_JSON if page else None,
    )
    return Retry(
        error=error,
        status=reply.status,
        request_id=_request_id(reply.headers),
        partial=beginning(reply.body, PARTIAL_BYTES),
    )


def _of_error(reply: Reply, status: int, error: ErrorBody, now: float) -> Outcome:
    """Return the outcome of an error. `status` is the reply's or the one of the error's type."""
    wait_s = retry_after_s(reply.headers, now)
    named = error.type or TYPE_OF_STATUS.get(status) or f"http_{status}"
    outcome, fix = _meaning(status, named, error, wait_s)
    hint = reply.headers.get("x-should-retry")
    if hint is not None and status not in UNHINTED and reply.status not in SUCCESS:
        outcome, fix = _hinted(outcome, fix, hint.strip().lower())
    message = error.message or f"HTTP {reply.status} without a text"
    return outcome(
        error=ErrorInfo(type=named, message=message, fix=fix),
        status=reply.status,
        request_id=_request_id(reply.headers),
        retry_after_s=wait_s,
    )


def _meaning(status: int, named: str, error: ErrorBody, wait_s: float | None) -> _Meaning:
    """Return which outcome a status is, and what to fix. `named` is the error's type."""
    text = f"{named} {error.message} {error.code} {error.details}"
    meaning: _Meaning = (Fail, FIXES.get(status, FIX_REQUEST))
    match status:
        case 429 if wait_s is not None or not SPENT_429.search(text):
            meaning = (Snooze, None)
        case 401 | 402 | 429:
            meaning = (StopAccount, FIXES[status])
        case 403:
            meaning = (StopAccount, FIX_FORBIDDEN) if named in ACCOUNT_TYPES else meaning
        case 400 if SPENT_400.search(text):
            meaning = (StopAccount, FIX_CREDIT)
        case 408 | 409:
            meaning = (Retry, None)
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status < HTTPStatus.OK:
            meaning = (Retry, None)
        case _ if status < HTTPStatus.BAD_REQUEST:  # a redirect: every job would get it
            meaning = (StopAccount, FIX_REDIRECT)
    return meaning


def _hinted(outcome: _Unsuccessful, fix: str | None, hint: str) -> _Meaning:
    """Let `x-should-retry` choose, but only between failed and retrying."""
    if outcome is Fail and hint == "true":
        return Retry, fix
    if outcome is Retry and hint == "false":
        return Fail, FIX_HINTED
    return outcome, fix


def _request_id(headers: Mapping[str, str]) -> str | None:
    """Return the id that the endpoint gave to this call, fit for a row."""
    found = headers.get("request-id") or headers.get("x-request-id")
    return header(found) if found else None
