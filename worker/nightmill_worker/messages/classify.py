"""The one classifier: what an answer means for its job. Retries, limiter and breaker all use it.

The API's own error code decides first (see error_codes.py). Then the status does, because proxies
keep it. Another code or an `error.type` decides in three cases: an error inside a 200 stream, a
refusal that names the account, and a 403 that names the request. A text comes last, since it may
repeat a prompt: it never stops an account.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Final

import msgspec

from nightmill.records.result import ErrorInfo
from nightmill_worker.messages.error_body import (
    MESSAGE_CHARS,
    TEXT_CHARS,
    TYPE_OF_STATUS,
    ErrorBody,
    error_in,
    error_of,
    words_of,
)
from nightmill_worker.messages.error_codes import FIX_SPEND, meaning_of_code, stem_of
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
    StopAccount,
    Suspect,
)
from nightmill_worker.messages.page import page_words
from nightmill_worker.messages.retry_after import retry_after_s
from nightmill_worker.messages.statuses import (
    AWAY,
    FIX_FORBIDDEN,
    FIX_MODEL,
    FIX_REQUEST,
    REDIRECTS,
    Meaning,
    Unsuccessful,
    is_odd,
    meaning_of,
    phrase_of,
)
from nightmill_worker.messages.text import beginning, clean

# Codes of refusals that end when a person acts: `code` or `type` of gateways.
ACCOUNT_CODES: Final = frozenset(
    {
        "authentication_error",
        "billing_error",
        "insufficient_quota",
        "budget_exceeded",
        "credit_balance_exhausted",
        "credit_balance_too_low",
        "insufficient_credits",
        "billing_hard_limit_reached",
        "billing_not_active",
        "account_deactivated",
        "organization_spend_limit_exceeded",
        "organization_usage_limit_exceeded",
        "project_spend_limit_exceeded",
    }
)
MODEL_CODE: Final = re.compile(r"(?:^|_)model_access_denied$")
"""A gateway's code for a credential that may not use this one model."""
REQUEST_CODE: Final = re.compile(
    r"^(?:invalid_request_error|not_found_error|request_too_large)$"
    r"|content|safety|policy|moderation|guardrail|filter",
    re.IGNORECASE,
)
"""Codes of a 403 about the content of one request."""
CLIENT_ERRORS: Final = range(400, 500)
STOPS: Final = frozenset({401, 402, 407})
"""Statuses of a refused account, or of a proxy that refuses every call."""
OF_ACCOUNT: Final = STOPS | {403}
"""Statuses of an account that may be refused."""
NAMES_MODEL: Final = re.compile(r"model|^not_found_error$", re.IGNORECASE)
"""A 404 that knows what a model is comes from a Messages API, not from another server."""
UNHINTED: Final = OF_ACCOUNT | {429}
"""Statuses for which x-should-retry is ignored."""

# An address such as ".../account/billing" in an ordinary refusal says nothing about credit.
SPENT_429: Final = re.compile(
    r"(?<!/)(?:spend|usage[ _]limit|credit|billing|insufficient_quota|quota exceeded until)",
    re.IGNORECASE,
)
SPENT_400: Final = re.compile(r"credit balance|usage limits|spend(?:ing)?[ _]limit", re.IGNORECASE)

FIX_CREDIT: Final = "add credit or raise the usage limit, then run `nightmill resume`"
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
            usage=broken.usage,
            raw=broken.partial.encode() if defect else b"",
        )
    return Retry(
        error=error,
        status=broken.status,
        request_id=request_id,
        partial=broken.partial,
        usage=broken.usage,
        away=broken.kind == "connection_error",
    )


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
    words, whole = words_of(reply.body), not reply.body.lstrip().startswith(b"{")
    with suppress(*NOT_JSON):
        msgspec.json.decode(reply.body, type=msgspec.Raw)
        whole = True
    kind = "an HTML page" if page_words(reply.body, TEXT_CHARS) is not None else wrong
    error = ErrorInfo(
        type="invalid_response",
        message=f"not a Message: {kind}: {words}" if words else f"not a Message: {kind}",
        fix=FIX_NOT_JSON if whole and words else None,
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
    known = meaning_of_code(error.error_code)
    outcome, fix = known or _meaning(status, error, wait_s)
    if known and outcome is Fail:
        named = stem_of(error.error_code)
    hint = None if known else reply.headers.get("x-should-retry")
    if hint is not None and status not in UNHINTED and reply.status not in SUCCESS:
        outcome, fix = _hinted(outcome, fix, hint.strip().lower())
    message = _message(reply, error)
    if is_odd(status):
        named, message = "invalid_response", f"HTTP {status} is no final answer: {message}"
    made = outcome(
        error=ErrorInfo(type=named, message=message, fix=fix),
        status=reply.status,
        request_id=_request_id(reply.headers),
        retry_after_s=wait_s,
    )
    if isinstance(made, Retry) and reply.status in AWAY:
        return msgspec.structs.replace(made, away=True)
    if not isinstance(made, Suspect):
        return made
    kind, words = f"{status} {error.type or 'text'}", _money_words(status, error.message)
    return msgspec.structs.replace(made, kind=kind, words=words)


def _message(reply: Reply, error: ErrorBody) -> str:
    """Return the endpoint's own words; of a redirect, where it goes."""
    to = reply.headers.get("location") if reply.status in REDIRECTS else None
    if to:  # what follows the "?" may hold a key
        return f"{phrase_of(reply.status)}, to {clean(to).partition('?')[0]}"
    return error.message or f"{phrase_of(reply.status)}, without a text"


def _meaning(status: int, error: ErrorBody, wait_s: float | None) -> Meaning:
    """Return which outcome an error is, and what to fix."""
    if status in CLIENT_ERRORS and (found := _of_account(status, error, wait_s)) is not None:
        return found
    if status == HTTPStatus.FORBIDDEN:  # about the content of this one request
        return Meaning(Fail, FIX_REQUEST)
    if status == HTTPStatus.NOT_FOUND and any(map(NAMES_MODEL.search, error.texts)):
        return Meaning(Fail, FIX_MODEL)
    return meaning_of(status)


def _of_account(status: int, error: ErrorBody, wait_s: float | None) -> Meaning | None:
    """Return the meaning of a 4xx that concerns the account, or may concern it; else None."""
    fix = FIX_SPEND if status == HTTPStatus.TOO_MANY_REQUESTS else FIX_CREDIT
    if status in OF_ACCOUNT:
        fix = meaning_of(status).fix or fix
    match status:
        case 429 if wait_s is not None:
            return None
        case 401 | 403 if any(map(MODEL_CODE.search, error.codes)):
            return Meaning(Suspect, FIX_FORBIDDEN)
        case _ if status in STOPS or not ACCOUNT_CODES.isdisjoint(error.codes):
            return Meaning(StopAccount, fix)
        case 400 | 429 if not error.error_code and _money_words(status, error.message):
            return Meaning(Suspect, fix)
        case 403 if not (error.type and REQUEST_CODE.search(error.type)):
            return Meaning(Suspect, fix)
        case _:
            return None


def _money_words(status: int, message: str) -> str:
    """Return the words of a refusal's text that say that money is spent, "" for none."""
    pattern = {400: SPENT_400, 429: SPENT_429}.get(status)
    found = pattern.search(message) if pattern else None
    return found[0] if found else ""


def _hinted(outcome: Unsuccessful, fix: str | None, hint: str) -> Meaning:
    """Let `x-should-retry` choose, but only between failed and retrying."""
    if outcome is Fail and hint == "true":
        return Meaning(Retry, fix)
    if outcome is Retry and hint == "false":
        return Meaning(Fail, FIX_HINTED)
    return Meaning(outcome, fix)


def _request_id(headers: Mapping[str, str]) -> str | None:
    """Return the id that the endpoint gave to this call, fit for a row."""
    found = headers.get("request-id") or headers.get("x-request-id")
    return clean(found) if found else None
