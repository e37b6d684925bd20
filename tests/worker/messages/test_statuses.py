"""Every status and every shape of an error that gateways send has its words and its fix."""

from __future__ import annotations

import pytest

from nightmill_worker.messages.outcome import (
    Fail,
    Outcome,
    Retry,
    Snooze,
    StopAccount,
    Succeeded,
    Suspect,
)
from tests.worker.messages.test_classify import MESSAGE, answer, body, error_of


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (b'{"message":"no"}', "http_418", "no"),
        (b'{"Message":"no"}', "http_418", "no"),
        (b'{"msg":"no"}', "http_418", "no"),
        (b'{"error":"no"}', "http_418", "no"),
        (b'{"error":{"message":"no"}}', "http_418", "no"),
        (b'{"error":{"error":{"message":"no","type":"x_error"}}}', "x_error", "no"),
        (b'{"detail":{"error":{"message":"no"}}}', "http_418", "no"),
        (b'{"error":"invalid_client","error_description":"no"}', "http_418", "invalid_client: no"),
        (b'{"error":"Not Found","message":"No handler","status":404}', "http_418",
         "Not Found: No handler"),
        (b'{"type":"about:blank","title":"Out","detail":"no"}', "http_418", "Out: no"),
        (b'{"type":"https://x.test/p/out","title":"Out","status":404}', "http_418", "Out"),
        (b'{"detail":[{"loc":["body","model"],"msg":"field required","type":"missing"}]}',
         "http_418", "body.model field required"),
        (b'{"errors":["no","never"]}', "http_418", "no: never"),
        (b'{"errors":[{"message":"no"}]}', "http_418", "no"),
        (b'[{"error":{"code":404,"message":"no","status":"NOT_FOUND"}}]', "http_418", "no"),
        (b'{"object":"error","message":"no","type":"BadRequestError","code":400}',
         "BadRequestError", "no"),
        (b'{"error":{"message":"no","type":"None","code":"400"}}', "http_418", "no"),
        (b'{"error":{"message":"no","type":"400","code":null}}', "http_418", "no"),
        (b'{"error":{"message":"Provider failed","code":418,"metadata":{"raw":"upstream: no"}}}',
         "http_418", "Provider failed: upstream: no"),
        (b'{"odd":1}', "http_418", '{"odd":1}'),
        (b"<html><head><title>418 Out</title></head><body><h1>418 Out</h1><p>a &amp; b</p></body>",
         "http_418", "418 Out: a & b"),
        (b"<style>p{}</style><body><script>x()</script>no</body></html>", "http_418", "no"),
        (b"<!DOCTYPE html><title>Sign in</title>", "http_418", "Sign in"),
        (b"<?xml version='1.0'?><Error><Code>Denied</Code> <Message>no</Message></Error>",
         "http_418", "Denied no"),
        (b"<html></html>", "http_418", "HTTP 418 I'm a Teapot, without a text"),
    ],
)  # fmt: skip
def test_the_words_of_an_upstream_are_kept_whatever_their_shape(
    text: bytes, kind: str, message: str
) -> None:
    """`{"detail": ...}` was shown as JSON, a page as tags, and "400" became the error's type."""
    assert error_of(answer(418, text)) == (kind, message)


@pytest.mark.parametrize(
    ("status", "text", "expected", "words"),
    [
        (302, b"", Suspect, "redirect"),
        (404, b'{"detail":"Not Found"}', Fail, "BASE_URL"),
        (404, b"<html><title>404</title></html>", Fail, "BASE_URL"),
        (404, body("not_found_error", "model: x"), Fail, "`model`, which"),
        (404, b'{"error":{"message":"The model x does not exist"}}', Fail, "`model`, which"),
        (405, b'{"detail":"Method Not Allowed"}', Fail, "BASE_URL"),
        (407, b"", StopAccount, "login"),
        (408, b"", Retry, "again"),
        (410, b"", Fail, "model"),
        (415, b"", Fail, "BASE_URL"),
        (431, b"", Fail, "headers"),
        (497, b"", Fail, "https"),
        (499, b"", Retry, "again"),
        (501, b"", Fail, "BASE_URL"),
        (502, b"", Retry, "gateway"),
        (503, b"", Retry, "again"),
        (504, b"", Retry, "stream"),
        (511, b"", Retry, "sign in"),
        (524, b"", Retry, "stream"),
        (526, b"", Retry, "certificate"),
        (529, b"", Retry, "overloaded"),
    ],
)
def test_each_status_of_gateways_has_its_own_fix(
    status: int, text: bytes, expected: type[Outcome], words: str
) -> None:
    """All of 4xx had one advice: to change the request; 499 had no second try."""
    outcome = answer(status, text)
    assert isinstance(outcome, expected)
    assert not isinstance(outcome, Succeeded)
    assert words in (outcome.error.fix or "")


@pytest.mark.parametrize("status", range(300, 600))
def test_every_status_has_a_type_a_text_and_a_fix(status: int) -> None:
    """Gateways send any of them."""
    outcome = answer(status)
    assert not isinstance(outcome, Succeeded)
    assert outcome.error.type
    assert f"HTTP {status}" in outcome.error.message
    assert bool(outcome.error.fix) == (status != 429)


def test_a_redirect_says_where_it_goes() -> None:
    """What follows the question mark may hold a key, so it is left out."""
    outcome = answer(302, b"<title>Moved</title>", location="https://sso.test/in?token=x")
    assert error_of(outcome)[1] == "HTTP 302 Found, to https://sso.test/in"


@pytest.mark.parametrize("status", [503, 529])
def test_an_overloaded_endpoint_is_away(status: int) -> None:
    """Such calls do not count in a short outage."""
    outcome = answer(status)
    assert isinstance(outcome, Retry)
    assert outcome.away


@pytest.mark.parametrize(
    ("text", "message", "fix"),
    [
        (b"<html><title>Sign in - proxy</title></html>",
         "not a Message: an HTML page: Sign in - proxy", "BASE_URL"),
        (b'{"object":"chat.completion","choices":[]}', '"choices":[]}', "BASE_URL"),
        (b'{"detail":"Not Found"}', '{"detail":"Not Found"}', "BASE_URL"),
        (b"upstream connect error", "upstream connect error", "BASE_URL"),
        (MESSAGE[:-40], '{"id":"msg_1"', ""),
        (b"", "not a Message: ", ""),
    ],
)  # fmt: skip
def test_a_200_without_a_message_shows_what_came(text: bytes, message: str, fix: str) -> None:
    """The row said "JSON is malformed: invalid character (byte 0)" and had no fix."""
    outcome = answer(200, text)
    assert isinstance(outcome, Retry)
    assert message in outcome.error.message
    assert bool(outcome.error.fix) == bool(fix)
    assert fix in (outcome.error.fix or "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'{"code":429,"message":"too fast"}', Snooze),
        (b'{"object":"error","message":"no","code":400}', Fail),
        (b'{"type":"error","message":"no"}', Retry),
    ],
)
def test_an_error_with_status_200_goes_by_its_code(text: bytes, expected: type[Outcome]) -> None:
    """Some gateways answer 200 whatever happens."""
    outcome = answer(200, text)
    assert isinstance(outcome, expected)
    assert error_of(outcome)[0] != "invalid_response"
