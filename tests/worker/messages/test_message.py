"""A 2xx with a Message is a success, whatever is odd in fields that nothing depends on."""

from __future__ import annotations

import msgspec
import pytest

from nightmill.records.result import Usage
from nightmill_worker.messages.classify import classify
from nightmill_worker.messages.outcome import Fail, Outcome, Reply, Retry, Succeeded

MAX = (1 << 63) - 1
BLOCK = b'[{"type": "text", "text": "ok"}]'
USAGE = b'{"input_tokens": 5, "output_tokens": 3}'
KNOWN = Usage(input_tokens=5, output_tokens=3)


def body(content: bytes = BLOCK, usage: bytes = USAGE, model: bytes = b'"m"') -> bytes:
    """Return a Message."""
    return (
        b'{"id": "msg_1", "type": "message", "role": "assistant", "model": %b, "content": %b, '
        b'"stop_reason": "end_turn", "stop_sequence": null, "usage": %b}' % (model, content, usage)
    )


def outcome_of(text: bytes, **headers: str) -> Outcome:
    """Return what an answer with status 200 means."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return classify(Reply(status=200, headers=named, body=text), 0.0)


def message_of(text: bytes) -> Succeeded:
    """Return the outcome of an answer that must be a success."""
    outcome = outcome_of(text)
    assert isinstance(outcome, Succeeded), outcome
    msgspec.json.decode(outcome.message, type=dict[str, msgspec.Raw])  # it is JSON
    return outcome


@pytest.mark.parametrize(
    ("usage", "expected", "unknown"),
    [
        (USAGE, KNOWN, False),
        (b"null", Usage(), True),
        (b"[]", Usage(), True),
        (b'"5"', Usage(), True),
        (b"{}", Usage(), True),
        (b'{"input_tokens": 5}', Usage(input_tokens=5), True),
        (b'{"input_tokens": null, "output_tokens": 3}', Usage(output_tokens=3), True),
        (b'{"input_tokens": 5.0, "output_tokens": "3"}', KNOWN, False),
        (b'{"input_tokens": 5e0, "output_tokens": 3.9}', KNOWN, False),
        (b'{"input_tokens": -5, "output_tokens": 3}', Usage(output_tokens=3), True),
        (b'{"input_tokens": true, "output_tokens": {}}', Usage(), True),
        (b'{"input_tokens": NaN, "output_tokens": 3}', Usage(output_tokens=3), True),
        (b'{"input_tokens": 1e999, "output_tokens": 3}', Usage(output_tokens=3), True),
        (b'{"input_tokens": 5, "output_tokens": 3, "cache_read_input_tokens": "x"}', KNOWN, False),
        (b'{"input_tokens": 100000000000000000000, "output_tokens": 3}',
         Usage(input_tokens=MAX, output_tokens=3), False),
        (b'{"input_tokens": 9223372036854775807, "output_tokens": 9223372036854775808}',
         Usage(input_tokens=MAX, output_tokens=MAX), False),
        (b'{"input_tokens": 1e30, "output_tokens": 3}',
         Usage(input_tokens=MAX, output_tokens=3), False),
        (b'{"input_tokens": %b, "output_tokens": 3}' % (b"9" * 5000), Usage(output_tokens=3), True),
    ],
)  # fmt: skip
def test_usage_of_any_kind(usage: bytes, expected: Usage, unknown: bool) -> None:  # noqa: FBT001
    """A number too large for a store's column is capped. What is unknown is 0 and marked."""
    outcome = message_of(body(usage=usage))
    assert outcome.usage == expected
    assert outcome.usage_unknown is unknown


def test_usage_may_be_missing() -> None:
    """Some servers report none at all."""
    outcome = message_of(body().replace(b'"usage"', b'"used"'))
    assert (outcome.usage, outcome.usage_unknown) == (Usage(), True)


@pytest.mark.parametrize(
    ("model", "expected"),
    [(b"null", ""), (b"7", ""), (b'["m"]', ""), (b'"a\\u0000b"', "a\ufffdb"),
     (b'"%b"' % (b"m" * 999), "m" * 256)],
)  # fmt: skip
def test_a_model_of_any_kind(model: bytes, expected: str) -> None:
    """A row takes a bounded text without NUL."""
    assert message_of(body(model=model)).model == expected


@pytest.mark.parametrize("stop_reason", [b"null", b"7", b"{}"])
def test_a_stop_reason_of_any_kind(stop_reason: bytes) -> None:
    """Only a text is one."""
    text = body().replace(b'"end_turn"', stop_reason)
    assert message_of(text).stop_reason is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"null", []),
        (b'"hello"', [{"type": "text", "text": "hello"}]),
        (b"[]", []),
        (b"[null, 7]", [None, 7]),
        (b'[{"type": "tool_use", "input": {"n": NaN, "m": -Infinity}}]',
         [{"type": "tool_use", "input": {"n": None, "m": None}}]),
        (rb'[{"type": "text", "text": "cut \ud83d"}]', [{"type": "text", "text": "cut \ufffd"}]),
        (b'[{"type": "text", "text": "h\xc3"}]', [{"type": "text", "text": "h\ufffd"}]),
        (b'[{"type": "text", "text": "a\nb\tc"}]', [{"type": "text", "text": "a\nb\tc"}]),
        (rb'[{"type": "text", "text": "C:\dir"}]', [{"type": "text", "text": "C:\\dir"}]),
    ],
)  # fmt: skip
def test_content_of_any_kind(content: bytes, expected: object) -> None:
    """What readers of results expect is a list of blocks, as valid JSON."""
    outcome = message_of(body(content))
    assert msgspec.json.decode(outcome.message)["content"] == expected
    assert outcome.usage == KNOWN


@pytest.mark.parametrize("around", [b"\xef\xbb\xbf%b", b"\r\n %b \n\n", b"\xef\xbb\xbf\n%b\n"])
def test_what_surrounds_a_message_is_no_matter(around: bytes) -> None:
    """A byte order mark or line ends come from gateways."""
    assert message_of(around % body()).message.startswith(b"{")


def test_a_message_between_line_ends_is_stored_on_one_line() -> None:
    """Results are exported one on each line: a carriage return ends a line too."""
    message = message_of(body().replace(b", ", b",\r")).message
    assert b"\r" not in message


@pytest.mark.parametrize(
    "text",
    [
        body().replace(b'"type": "message", ', b""),
        body(b"{}"),
        body(b"7"),
        body()[:-1],
        body()[:90],
        b"[" + body() + b"]",
        b"\xff" * 100,
        b'"' * 1000,
        b'{"a":' * 5000,
    ],
)
def test_what_holds_no_whole_message_is_retried_and_kept(text: bytes) -> None:
    """Only a text that was cut is called again; what was received is kept in the attempt."""
    outcome = outcome_of(text)
    assert isinstance(outcome, Retry)
    assert outcome.error.type == "invalid_response"
    assert outcome.partial == text.decode(errors="replace")


def test_what_is_kept_is_bounded() -> None:
    """Every attempt of a job keeps its own."""
    outcome = outcome_of(b"<" + b"x" * (1 << 20))
    assert isinstance(outcome, Retry)
    assert len(outcome.partial) == 64 << 10


def test_a_page_in_place_of_a_message_is_shown_with_the_fix() -> None:
    """A sign-in page comes from a proxy or a wrong BASE_URL."""
    outcome = outcome_of(b"\n<html><title>Sign in - proxy</title></html>")
    assert isinstance(outcome, Retry)
    assert outcome.error.message == "not a Message: an HTML page: Sign in - proxy"
    assert "BASE_URL" in (outcome.error.fix or "")


def test_a_defect_keeps_the_answer_and_does_not_repeat_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer is paid, and the next one would meet the same defect."""

    def broken(*_: object) -> None:
        raise TypeError("a defect")

    monkeypatch.setattr("nightmill_worker.messages.classify.read_message", broken)
    outcome = outcome_of(body())
    assert isinstance(outcome, Fail)
    assert outcome.raw == body()
    assert (outcome.error.type, outcome.status) == ("internal_error", 200)
    assert outcome.error.message.startswith("TypeError at broken:")


def test_a_defect_about_an_error_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was paid."""

    def broken(*_: object) -> None:
        raise TypeError("a defect")

    monkeypatch.setattr("nightmill_worker.messages.classify.error_of", broken)
    outcome = classify(Reply(status=500), 0.0)
    assert isinstance(outcome, Retry)
    assert outcome.error.type == "internal_error"


def test_a_request_id_is_text_that_a_row_can_hold() -> None:
    """It ended workers: the row held half of a surrogate pair."""
    outcome = outcome_of(body(), request_id="req_\udce9")
    assert outcome.request_id == "req_\ufffd"
    outcome = outcome_of(body(), request_id="x" * 60_000)
    assert outcome.request_id == "x" * 256
