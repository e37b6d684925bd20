"""The classifier as tables of answers and their outcomes."""

from __future__ import annotations

import msgspec
import pytest

from nightmill.records.result import Usage
from nightmill_worker.messages.classify import classify
from nightmill_worker.messages.outcome import (
    BreakKind,
    Broken,
    Fail,
    Outcome,
    Reply,
    Retry,
    Snooze,
    StopAccount,
    Succeeded,
    Suspect,
)

NOW = 1_800_000_000.0
MESSAGE = (
    b'{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[{"type":"text",'
    b'"text":"h\xc3\xa9"}],"stop_reason":"end_turn","usage":{"input_tokens":3,"output_tokens":5,'
    b'"cache_read_input_tokens":7,"cache_creation_input_tokens":null,"service_tier":"standard"}}'
)


def body(kind: str | None = None, message: str = "oops", **more: object) -> bytes:
    """Return an error body of the Messages API."""
    error = {"type": kind, "message": message, **more}
    return msgspec.json.encode({"type": "error", "error": error})


def answer(status: int, text: bytes = b"", **headers: str) -> Outcome:
    """Classify a reply; `_` in a header's name stands for `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return classify(Reply(status=status, headers=named, body=text), NOW)


def error_of(outcome: Outcome) -> tuple[str, str]:
    """Return an outcome's error type and message."""
    assert not isinstance(outcome, Succeeded)
    return outcome.error.type, outcome.error.message


def test_a_complete_message_succeeds_and_keeps_its_bytes() -> None:
    """Null counts are 0. The content is stored as it came."""
    outcome = answer(200, MESSAGE, request_id="req_1", content_type="text/plain")
    assert outcome == Succeeded(
        message=MESSAGE,
        usage=Usage(input_tokens=3, output_tokens=5, cache_read_input_tokens=7),
        model="m",
        stop_reason="end_turn",
        status=200,
        request_id="req_1",
    )


def test_a_pretty_printed_message_is_put_on_one_line() -> None:
    """Results are exported one on each line."""
    pretty = msgspec.json.format(MESSAGE, indent=2)
    outcome = answer(200, pretty)
    assert isinstance(outcome, Succeeded)
    assert outcome.message == MESSAGE


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"null",
        b"<html>Sign in to the Wi-Fi</html>",
        b"{}",
        MESSAGE[:-1],
        MESSAGE + b"}",
        MESSAGE.replace(b'"type":"message",', b""),
        MESSAGE.replace(b'"type":"message"', b'"type":"completion"'),
        MESSAGE.replace(b'"content"', b'"contents"'),
        MESSAGE.replace(b'[{"type":"text","text":"h\xc3\xa9"}]', b"{}"),
        MESSAGE.replace(b'[{"type":"text","text":"h\xc3\xa9"}]', b"7"),
        b'{"type":"message","usage":{},"content":' + b"[" * 9999 + b"]" * 9999 + b"}",
    ],
)
def test_a_200_that_is_not_a_complete_message_is_retried(text: bytes) -> None:
    """A login page, a proxy's page or a cut body must not be stored as a result."""
    outcome = answer(200, text)
    assert isinstance(outcome, Retry)
    assert outcome.error.type == "invalid_response"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("overloaded_error", Retry),
        ("api_error", Retry),
        ("timeout_error", Retry),
        ("brand_new_error", Retry),
        ("rate_limit_error", Snooze),
        ("invalid_request_error", Fail),
        ("request_too_large", Fail),
        ("authentication_error", StopAccount),
        ("permission_error", Suspect),
        ("billing_error", StopAccount),
    ],
)
def test_an_error_inside_a_200_stream_goes_by_its_type(kind: str, expected: type[Outcome]) -> None:
    """The status and the headers were sent before the error happened."""
    outcome = answer(200, body(kind), x_should_retry="true")
    assert isinstance(outcome, expected)
    assert error_of(outcome) == (kind, "oops")


@pytest.mark.parametrize(
    ("status", "text", "expected", "kind"),
    [
        (100, b"", Retry, "invalid_response"),
        (101, b"", Retry, "invalid_response"),
        (199, b"x", Retry, "invalid_response"),
        (300, b"", Retry, "invalid_response"),
        (301, b"", Suspect, "http_301"),
        (304, b"", Retry, "invalid_response"),
        (400, body("invalid_request_error"), Fail, "invalid_request_error"),
        (400, body("brand_new_error"), Fail, "brand_new_error"),
        (400, b"", Fail, "invalid_request_error"),
        (401, body("authentication_error"), StopAccount, "authentication_error"),
        (401, b"<html>", StopAccount, "authentication_error"),
        (402, body("billing_error"), StopAccount, "billing_error"),
        (401, body("key_model_access_denied"), Suspect, "key_model_access_denied"),
        (403, body("permission_error"), Suspect, "permission_error"),
        (403, body("key_model_access_denied"), Suspect, "key_model_access_denied"),
        (403, body("billing_error"), StopAccount, "billing_error"),
        (403, b"Forbidden", Suspect, "permission_error"),
        (403, b"<html>Blocked</html>", Suspect, "permission_error"),
        (403, body("content_refused"), Fail, "content_refused"),
        (403, body("invalid_request_error"), Fail, "invalid_request_error"),
        (404, body("not_found_error"), Fail, "not_found_error"),
        (405, b"", Fail, "http_405"),
        (408, b"", Retry, "http_408"),
        (409, body("conflict_error"), Retry, "conflict_error"),
        (413, body("request_too_large"), Fail, "request_too_large"),
        (422, body("invalid_request_error"), Fail, "invalid_request_error"),
        (429, body("rate_limit_error"), Snooze, "rate_limit_error"),
        (429, body("rate_limit_exceeded"), Snooze, "rate_limit_exceeded"),
        (429, b"slow down", Snooze, "rate_limit_error"),
        (500, body("api_error"), Retry, "api_error"),
        (500, body("invalid_request_error"), Retry, "invalid_request_error"),
        (502, b"<html>Bad Gateway</html>", Retry, "http_502"),
        (503, b"", Retry, "http_503"),
        (504, body("timeout_error"), Retry, "timeout_error"),
        (529, body("overloaded_error"), Retry, "overloaded_error"),
        (599, b"", Retry, "http_599"),
        (999, b"", Retry, "invalid_response"),
    ],
)
def test_an_error_status_decides(
    status: int, text: bytes, expected: type[Outcome], kind: str
) -> None:
    """The table "Life of a job", with bodies of several kinds."""
    outcome = answer(status, text, x_request_id="req_9")
    assert isinstance(outcome, expected)
    assert not isinstance(outcome, Succeeded)
    assert (outcome.status, outcome.request_id, outcome.error.type) == (status, "req_9", kind)
    assert outcome.error.message
    assert bool(outcome.error.fix) == (not isinstance(outcome, Snooze))


@pytest.mark.parametrize(
    "message",
    [
        "This would exceed your rate limit of 50,000 input tokens. See the headers for usage.",
        "Rate limit reached. Add a payment method at https://example.test/account/billing",
        "Number of concurrent connections has exceeded your rate limit",
    ],
)
def test_an_ordinary_429_snoozes_even_without_retry_after(message: str) -> None:
    """Stopping the account for these would waste the rest of the night."""
    assert isinstance(answer(429, body("rate_limit_error", message)), Snooze)


@pytest.mark.parametrize(
    ("status", "hint", "expected"),
    [
        (400, "true", Retry),
        (404, "True", Retry),
        (400, "false", Fail),
        (400, "perhaps", Fail),
        (500, "false", Fail),
        (529, "true", Retry),
        (408, "false", Fail),
        (401, "true", StopAccount),
        (402, "false", StopAccount),
        (403, "true", Suspect),
        (429, "false", Snooze),
        (302, "true", Suspect),
    ],
)
def test_x_should_retry_chooses_only_between_failed_and_retrying(
    status: int, hint: str, expected: type[Outcome]
) -> None:
    """A stopped account or a rate limit does not change by a hint."""
    assert isinstance(answer(status, x_should_retry=hint), expected)


def test_a_403_about_one_request_is_not_retried_on_a_hint() -> None:
    """x-should-retry is ignored for every 403."""
    assert isinstance(answer(403, body("content_refused"), x_should_retry="true"), Fail)


@pytest.mark.parametrize(
    ("status", "words"), [(404, "model"), (413, "smaller"), (400, "field"), (401, "API_KEY")]
)
def test_a_fix_says_what_to_change(status: int, words: str) -> None:
    """The fix is in the stored row, which may be all that the reader has."""
    outcome = answer(status)
    assert not isinstance(outcome, Succeeded)
    assert words in (outcome.error.fix or "")


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (b'{"error":{"message":"m","type":"tokens","code":"rate_limit_exceeded"}}',
         "rate_limit_exceeded", "m"),
        (b'{"error":{"message":"m","type":null,"code":"too_fast"}}', "too_fast", "m"),
        (b'{"error":{"message":"m","type":"rate_limit_error","code":"x"}}',
         "rate_limit_error", "m"),
        (b'{"error":{"message":"m","code":429}}', "rate_limit_error", "m"),
        (b'{"error":"busy"}', "rate_limit_error", "busy"),
        (b'{"detail":"busy"}', "rate_limit_error", "busy"),
        (b"  busy \xff ", "rate_limit_error", "busy \ufffd"),
        (b"x" * 5000, "rate_limit_error", "x" * 200),
        (b"", "rate_limit_error", "HTTP 429 Too Many Requests, without a text"),
    ],
)  # fmt: skip
def test_error_bodies_of_other_shapes_are_understood(text: bytes, kind: str, message: str) -> None:
    """Gateways use other shapes. A text `code` replaces an unknown type."""
    assert error_of(answer(429, text)) == (kind, message)


def test_a_very_long_error_message_is_cut() -> None:
    """Every attempt of every job stores its message."""
    assert len(error_of(answer(500, body("api_error", "x" * 100_000)))[1]) == 2000


@pytest.mark.parametrize(
    "kind",
    [
        "connection_error",
        "connection_dropped",
        "timeout",
        "truncated_response",
        "invalid_response",
    ],
)
def test_a_call_without_a_whole_answer_is_retried(kind: BreakKind) -> None:
    """The next call may succeed. The status and id are kept for the attempt."""
    broken = Broken(kind=kind, detail="why", status=200, headers={"request-id": "req_1"})
    outcome = classify(broken, NOW)
    assert isinstance(outcome, Retry)
    assert (outcome.status, outcome.request_id) == (200, "req_1")
    assert error_of(outcome) == (kind, "why")


def test_a_tool_input_cut_at_max_tokens_fails_with_the_fix() -> None:
    """The same call would be cut in the same place and paid again."""
    outcome = classify(Broken(kind="input_cut", detail="why", status=200), NOW)
    assert isinstance(outcome, Fail)
    assert "max_tokens" in (outcome.error.fix or "")


def test_every_unsuccessful_outcome_carries_the_wait() -> None:
    """A 529 may have one too."""
    outcome = answer(529, retry_after="12")
    assert isinstance(outcome, Retry)
    assert outcome.retry_after_s == 12.0
