"""THE one classifier: what an answer means for its job. Retry rule, window and breaker all use it.

The status decides, because proxies keep it; `error.type` decides only where the status says
nothing (an error inside a 200 stream) and tells which 403 is about one request alone.
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

RETRY_AFTER_MAX_S: Final = 900.0  # then one trial is worth more than obedience
TEXT_CHARS: Final = 200  # of an error that is not JSON
MESSAGE_CHARS: Final = 2_000  # of one that is

# The status that an error type stands for: the API's own, and one that gateways use.
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

LINE_TYPES: Final = frozenset({"authentication_error", "billing_error", "permission_error"})
SUCCESS: Final = range(200, 300)
UNHINTED: Final = frozenset({401, 402, 403, 429})  # x-should-retry has no say in these

# An address such as ".../account/billing" in an ordinary refusal is no statement about credit.
SPENT_429: Final = re.compile(
    r"(?<!/)(?:spend|usage[ _]limit|credit|billing|insufficient_quota|quota exceeded until)",
    re.IGNORECASE,
)
SPENT_400: Final = re.compile(r"credit balance|usage limits|spend(?:ing)?[ _]limit", re.IGNORECASE)

FIXES: Final = {
    401: "check API_KEY or AUTH_TOKEN, which the endpoint does not accept, then resume the line",
    402: "settle the account's billing, then resume the line",
    404: "check `model`, which the endpoint does not know (if every job ends so, check BASE_URL)",
    413: "make the request smaller: shorten the messages, or send documents by URL",
    429: "raise the spend limit or wait until it is renewed, then resume the line",
}
FIX_REQUEST: Final = "change the request as the message says and requeue it"
FIX_FORBIDDEN: Final = "allow the credential to do this or use another, then resume the line"
FIX_CREDIT: Final = "add credit or raise the usage limit, then resume the line"
FIX_REDIRECT: Final = "set BASE_URL to the endpoint itself: it answers with a redirect"
FIX_HINTED: Final = "change the request: the endpoint says that retrying it is of no use"
FIX_CONNECT: Final = "check BASE_URL and the network"
FIX_CUT: Final = "raise `max_tokens`: the answer ended inside a tool's input"


class _Tokens(msgspec.Struct):
    """A Message's `usage`; the API sends null for caches that were not used."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Message(msgspec.Struct):
    """The parts of a Message that we look at; its content stays bytes."""

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
    """What an error's body is, where it is JSON."""

    error: _Error | str


_Unsuccessful: TypeAlias = type[Retry | Snooze | Fail | StopAccount]
_Meaning: TypeAlias = tuple[_Unsuccessful, str | None]  # an outcome and what to fix

_decode_message = msgspec.json.Decoder(_Message).decode
_decode_error = msgspec.json.Decoder(_ErrorBody).decode


def classify(reply: Reply | Broken, now: float) -> Outcome:
    """Return what `reply` means. `now` is epoch seconds, for a retry-after that is a date."""
    if isinstance(reply, Broken):
        return _of_break(reply)
    if reply.status in SUCCESS:
        return _of_body(reply, now)
    return _of_error(reply, reply.status, _error_of(reply), now)


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Return the wait that the endpoint asks for, in seconds, 0 to RETRY_AFTER_MAX_S.

    `retry-after-ms` beats `retry-after` (seconds or an HTTP date, from the answer's own `date`:
    `now` may be off); what is negative, past or unparsable counts as absent.
    """
    millis = _number(headers.get("retry-after-ms"))
    wait = None if millis is None else millis / 1000
    if wait is None and (given := headers.get("retry-after")) is not None:
        wait = _number(given)
        if wait is None:
            said = _moment(headers.get("date"))
            wait = _until(given, now if said is None else said)
    return None if wait is None else min(wait, RETRY_AFTER_MAX_S)


def _of_break(broken: Broken) -> Retry | Fail:
    """Retry a call without a whole answer, unless the next would end at the same place."""
    cut = broken.kind == "input_cut"
    fix = FIX_CUT if cut else FIX_CONNECT if broken.kind == "connection_error" else None
    return (Fail if cut else Retry)(
        error=ErrorInfo(type=broken.kind, message=broken.detail, fix=fix),
        status=broken.status,
        request_id=_request_id(broken.headers),
    )


def _of_body(reply: Reply, now: float) -> Outcome:
    """Accept a 2xx only with a complete Message; an error in its place goes by its own type."""
    try:
        found = _decode_message(reply.body)
        if not reply.body.isascii():
            reply.body.decode()  # msgspec skips over the content without looking at its UTF-8
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
    """Turn an error into its outcome; `status` is the reply's, or the one its type stands for."""
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
    """Tell which outcome a status is, and what to fix. `named` is the error's type."""
    words = f"{named} {error.message} {error.code} {bytes(error.details).decode(errors='replace')}"
    meaning: _Meaning = (Fail, FIXES.get(status, FIX_REQUEST))
    match status:
        case 429 if wait_s is not None or not SPENT_429.search(words):
            meaning = (Snooze, None)
        case 401 | 402 | 429:
            meaning = (StopAccount, FIXES[status])
        case 403:
            meaning = (StopAccount, FIX_FORBIDDEN) if named in LINE_TYPES else meaning
        case 400 if SPENT_400.search(words):
            meaning = (StopAccount, FIX_CREDIT)
        case 408 | 409:
            meaning = (Retry, None)
        case _ if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            meaning = (Retry, None)
        case _ if status < HTTPStatus.BAD_REQUEST:  # no job is to blame: all would go this way
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
    """Return what an error's body says; of a text that is not JSON, its beginning."""
    text = reply.body[: 4 * TEXT_CHARS].decode(errors="replace").strip()
    return _error_in(reply.body) or _Error(message=text[:TEXT_CHARS])


def _error_in(body: bytes) -> _Error | None:
    """Return the error object of a JSON body, None without one; a telling `code` is its type."""
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
    """Return the tokens billed, 0 where the endpoint is silent."""
    return Usage(
        input_tokens=tokens.input_tokens or 0,
        output_tokens=tokens.output_tokens or 0,
        cache_read_input_tokens=tokens.cache_read_input_tokens or 0,
        cache_creation_input_tokens=tokens.cache_creation_input_tokens or 0,
    )


def _one_line(body: bytes) -> bytes:
    """Return `body` without line ends between its tokens: results travel one a line."""
    return msgspec.json.format(body, indent=-1) if b"\n" in body else body


def _request_id(headers: Mapping[str, str]) -> str | None:
    """Return the endpoint's name for this call."""
    return headers.get("request-id") or headers.get("x-request-id")


def _number(text: str | None) -> float | None:
    """Return a finite number >= 0, None for anything else."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


def _until(text: str, now: float) -> float | None:
    """Return the seconds from `now` to an HTTP date, None when it is past or none."""
    moment = _moment(text)
    return None if moment is None else _number(str(moment - now))


def _moment(text: str | None) -> float | None:
    """Return an HTTP date as epoch seconds, None when it is none."""
    try:
        moment = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # "-0000" gives no zone
    return zoned.timestamp()
