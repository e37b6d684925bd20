"""The one classifier: what an answer means for its job. Retries, limiter and breaker all use it.

The status decides, because proxies keep it. `error.type` decides in two cases: an error inside a
200 stream, and a 403, which may be about the account or about one request.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final, Literal, TypeAlias

import msgspec

from nightmill.records.result import ErrorInfo, Usage
from nightmill_worker.messages.outcome import (
    NOT_JSON,
    Broken,
    Fail,
    Outcome,
    Reply,
    Retry,
    Snooze,
    StopAccount,
    Succeeded,
)

RETRY_AFTER_MAX_S: Final = 900.0
"""Longest wait that an endpoint can ask for, seconds. After it one call is tried."""
TEXT_CHARS: Final = 200
"""Characters kept of an error that is not JSON."""
MESSAGE_CHARS: Final = 2_000
"""Characters kept of the message of an error that is JSON."""

# The status that belongs to an error type: the API's own types, and one that gateways use.
STATUS_OF_TYPE: Final = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
TYPE_OF_STATUS: Final = {status: name for name, status in reversed(STATUS_OF_TYPE.items())}

ACCOUNT_TYPES: Final = frozenset({"authentication_error", "billing_error", "permission_error"})
SUCCESS: Final = range(200, 300)
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
FIX_CONNECT: Final = "check BASE_URL and the network"
FIX_CUT: Final = "raise `max_tokens`: the answer ended inside a tool's input"


class _Tokens(msgspec.Struct):
    """A Message's `usage`. The API sends null for caches that were not used."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Message(msgspec.Struct):
    """The fields of a Message that are read here. The content stays bytes."""

    type: Literal["message"]
    content: list[msgspec.Raw]
    usage: _Tokens
    model: str = ""
    stop_reason: str | None = None


class _Error(msgspec.Struct):
    """An error object: the API's (`type`, `details`) or the other common shape (`code`)."""

    type: str | None = None
    message: str | None = None
    code: str | int | None = None
    details: msgspec.Raw = msgspec.Raw(b"")


class _ErrorBody(msgspec.Struct):
    """An error's body that is JSON."""

    error: _Error | str


_Unsuccessful: TypeAlias = type[Retry | Snooze | Fail | StopAccount]
_Meaning: TypeAlias = tuple[_Unsuccessful, str | None]  # an outcome and what to fix

_decode_message = msgspec.json.Decoder(_Message).decode
_decode_error = msgspec.json.Decoder(_ErrorBody).decode


def classify(reply: Reply | Broken, now: float) -> Outcome:
    """Return what `reply` means for its job. `now` is epoch seconds, for a retry-after date."""
    if isinstance(reply, Broken):
        return _of_break(reply)
    if reply.status in SUCCESS:
        return _of_body(reply, now)
    return _of_error(reply, reply.status, _error_of(reply), now)


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Return the wait that the endpoint asks for, 0 to RETRY_AFTER_MAX_S seconds, or None.

    `retry-after-ms` comes before `retry-after`, which is seconds or an HTTP date. A date counts
    from the answer's own `date`, because `now` may be wrong. A negative, past or unreadable value
    counts as absent.
    """
    millis = _number(headers.get("retry-after-ms"))
    wait = None if millis is None else millis / 1000
    if wait is None and (given := headers.get("retry-after")) is not None:
        wait = _number(given)
        if wait is None:
            sent_at = _moment(headers.get("date"))
            wait = _until(given, now if sent_at is None else sent_at)
    return None if wait is None else min(wait, RETRY_AFTER_MAX_S)


def _of_break(broken: Broken) -> Retry | Fail:
    """Retry a call without a whole answer, unless the next one would be cut in the same place."""
    cut = broken.kind == "input_cut"
    fix = FIX_CUT if cut else FIX_CONNECT if broken.kind == "connection_error" else None
    return (Fail if cut else Retry)(
        error=ErrorInfo(type=broken.kind, message=broken.detail, fix=fix),
        status=broken.status,
        request_id=_request_id(broken.headers),
    )


def _of_body(reply: Reply, now: float) -> Outcome:
    """Accept a 2xx only with a complete Message. For an error in its place the type decides."""
    try:
        found = _decode_message(reply.body)
        if not reply.body.isascii():
            reply.body.decode()  # msgspec does not check the UTF-8 of the content
    except NOT_JSON as wrong:
        error = _error_in(reply.body)
        if error is None:
            error = _Error(type="invalid_response", message=f"not a Message: {wrong}")
        return _of_error(reply, STATUS_OF_TYPE.get(error.type or "", 500), error, now)
    return Succeeded(
        message=_one_line(reply.body),
        usage=_usage(found.usage),
        model=found.model,
        stop_reason=found.stop_reason,
        status=reply.status,
        request_id=_request_id(reply.headers),
    )


def _of_error(reply: Reply, status: int, error: _Error, now: float) -> Outcome:
    """Return the outcome of an error. `status` is the reply's or the one of the error's type."""
    wait_s = retry_after_s(reply.headers, now)
    named = error.type or TYPE_OF_STATUS.get(status) or f"http_{status}"
    outcome, fix = _meaning(status, named, error, wait_s)
    hint = reply.headers.get("x-should-retry")
    if hint is not None and status not in UNHINTED and reply.status not in SUCCESS:
        outcome, fix = _hinted(outcome, fix, hint.strip().lower())
    message = (error.message or f"HTTP {reply.status} without a text")[:MESSAGE_CHARS]
    return outcome(
        error=ErrorInfo(type=named, message=message, fix=fix),
        status=reply.status,
        request_id=_request_id(reply.headers),
        retry_after_s=wait_s,
    )


def _meaning(status: int, named: str, error: _Error, wait_s: float | None) -> _Meaning:
    """Return which outcome a status is, and what to fix. `named` is the error's type."""
    text = f"{named} {error.message} {error.code} {bytes(error.details).decode(errors='replace')}"
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
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
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


def _error_of(reply: Reply) -> _Error:
    """Return an error's body. Of a text that is not JSON, its beginning is the message."""
    text = reply.body[: 4 * TEXT_CHARS].decode(errors="replace").strip()
    return _error_in(reply.body) or _Error(message=text[:TEXT_CHARS])


def _error_in(body: bytes) -> _Error | None:
    """Return the error object of a JSON body, or None. A text `code` replaces an unknown type."""
    try:
        error = _decode_error(body).error
    except NOT_JSON:
        return None
    if isinstance(error, str):
        return _Error(message=error)
    if error.type not in STATUS_OF_TYPE and isinstance(error.code, str):
        error.type = error.code
    return error


def _usage(tokens: _Tokens) -> Usage:
    """Return the tokens billed, 0 where the endpoint reports none."""
    return Usage(
        input_tokens=tokens.input_tokens or 0,
        output_tokens=tokens.output_tokens or 0,
        cache_read_input_tokens=tokens.cache_read_input_tokens or 0,
        cache_creation_input_tokens=tokens.cache_creation_input_tokens or 0,
    )


def _one_line(body: bytes) -> bytes:
    """Return `body` on one line, because results are exported one on each line."""
    return msgspec.json.format(body, indent=-1) if b"\n" in body else body


def _request_id(headers: Mapping[str, str]) -> str | None:
    """Return the id that the endpoint gave to this call."""
    return headers.get("request-id") or headers.get("x-request-id")


def _number(text: str | None) -> float | None:
    """Return a finite number >= 0, None for anything else."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


def _until(text: str, now: float) -> float | None:
    """Return the seconds from `now` to an HTTP date, None when it is past or not a date."""
    moment = _moment(text)
    return None if moment is None else _number(str(moment - now))


def _moment(text: str | None) -> float | None:
    """Return an HTTP date as epoch seconds, None for anything else."""
    try:
        moment = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # "-0000" means no zone
    return zoned.timestamp()
