"""Answers that are odd on the wire but hold a whole Message: each is one success, paid once."""

from __future__ import annotations

import gzip
import json
import zlib

import pytest

from nightmill_worker.messages.classify import classify
from nightmill_worker.messages.outcome import (
    Broken,
    Fail,
    Outcome,
    Reply,
    Retry,
    Snooze,
    Succeeded,
    Suspect,
)
from tests.worker.messages.endpoint import PARAMS, answering, sent

HEAD = b"HTTP/1.1 200 OK\r\n"
JSON_TYPE = b"content-type: application/json\r\n"
STREAM_TYPE = b"content-type: text/event-stream\r\n"
MESSAGE = (
    b'{"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-4-6", '
    b'"content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn", '
    b'"stop_sequence": null, "usage": {"input_tokens": 5, "output_tokens": 3}}'
)
START = (
    b'event: message_start\ndata: {"type": "message_start", "message": {"id": "msg_1", "type": '
    b'"message", "role": "assistant", "model": "claude-opus-4-6", "content": [], "stop_reason": '
    b'null, "stop_sequence": null, "usage": {"input_tokens": 5, "output_tokens": 1}}}\n\n'
)
BLOCK = (
    b'event: content_block_start\ndata: {"type": "content_block_start", "index": 0, '
    b'"content_block": {"type": "text", "text": ""}}\n\n'
)
DELTAS = (
    b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": 0, "delta": '
    b'{"type": "text_delta", "text": "Hel"}}\n\n'
    b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": 0, "delta": '
    b'{"type": "text_delta", "text": "lo"}}\n\n'
    b'event: content_block_stop\ndata: {"type": "content_block_stop", "index": 0}\n\n'
)
END = (
    b'event: message_delta\ndata: {"type": "message_delta", "delta": {"stop_reason": "end_turn", '
    b'"stop_sequence": null}, "usage": {"output_tokens": 3}}\n\n'
)
STOP = b'event: message_stop\ndata: {"type": "message_stop"}\n\n'
STREAM = START + BLOCK + DELTAS + END + STOP
GZIP = b"content-encoding: gzip\r\n"
DONE = b"data: [DONE]\n\n"


def answer(body: bytes, headers: bytes = b"", *, status: bytes = b"200 OK") -> bytes:
    """Return an HTTP answer whose body ends with the connection."""
    return b"HTTP/1.1 " + status + b"\r\n" + headers + b"\r\n" + body


def sized(body: bytes, headers: bytes = JSON_TYPE, *, extra: int = 0) -> bytes:
    """Return an HTTP answer with a content-length, which may be wrong by `extra`."""
    return answer(body, headers + b"content-length: %d\r\n" % (len(body) + extra))


ODD = {
    "bom": sized(b"\xef\xbb\xbf" + MESSAGE),
    "stream type in another case": answer(
        STREAM, b"content-type: Text/Event-Stream; charset=UTF-8\r\n"
    ),
    "stream as text": answer(STREAM, b"content-type: text/plain\r\n"),
    "stream as json": answer(STREAM, JSON_TYPE),
    "stream without a type": answer(STREAM),
    "json as a stream": answer(MESSAGE, STREAM_TYPE),
    "[DONE] after message_stop": answer(STREAM + DONE, STREAM_TYPE),
    "[DONE] for message_stop": answer(STREAM.replace(STOP, DONE), STREAM_TYPE),
    "no message_stop": answer(STREAM.replace(STOP, b""), STREAM_TYPE),
    "cut in message_stop": answer(STREAM[:-9], STREAM_TYPE),
    "no message_start": answer(STREAM.replace(START, b""), STREAM_TYPE),
    "no content_block_start": answer(STREAM.replace(BLOCK, b""), STREAM_TYPE),
    "unknown events": answer(
        STREAM.replace(END, b"event: x\ndata: <\n\n: c\n\n" + END), STREAM_TYPE
    ),
    "no end of the stream's length": sized(STREAM.replace(STOP, b""), STREAM_TYPE, extra=9),
    "json longer than sent": sized(MESSAGE, extra=9),
    "chunked without an end": answer(
        b"%x\r\n%b\r\n" % (len(MESSAGE), MESSAGE), JSON_TYPE + b"transfer-encoding: chunked\r\n"
    ),
    "gzip": sized(gzip.compress(MESSAGE), JSON_TYPE + GZIP),
    "gzip stream": answer(gzip.compress(STREAM), STREAM_TYPE + GZIP),
    "deflate": sized(zlib.compress(MESSAGE), JSON_TYPE + b"content-encoding: deflate\r\n"),
    "gzip that is none": sized(MESSAGE, JSON_TYPE + GZIP),
    "large header": sized(MESSAGE, JSON_TYPE + b"x-policy: " + b"p" * 60_000 + b"\r\n"),
    "large reason": answer(MESSAGE, JSON_TYPE, status=b"200 " + b"O" * 60_000),
    "latin-1 header": sized(MESSAGE, JSON_TYPE + b"request-id: req_\xe9\r\n"),
    "status 299": answer(MESSAGE, JSON_TYPE, status=b"299 Odd"),
    "interim answers": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: x\r\n\r\n"
    + sized(MESSAGE),
}


async def outcome_of(script: bytes, **changes: object) -> Outcome:
    """Return what a call means that is answered with exactly these bytes."""
    async with answering(script) as url:
        return classify(await sent(url, PARAMS, **changes), 0.0)


@pytest.mark.parametrize("name", ODD)
async def test_an_odd_answer_with_a_whole_message_is_a_success(name: str) -> None:
    """Each of these was thrown away and paid five times, or ended the worker."""
    outcome = await outcome_of(ODD[name])
    assert isinstance(outcome, Succeeded), outcome
    assert json.loads(outcome.message)["content"] == [{"type": "text", "text": "Hello"}]
    assert outcome.stop_reason == "end_turn"
    assert outcome.usage.output_tokens == 3
    assert outcome.usage_unknown is (name == "no message_start")


@pytest.mark.parametrize("script", [sized(MESSAGE, extra=9), answer(STREAM[: -len(STOP)])])
async def test_an_answer_that_is_whole_but_does_not_end_is_a_success(script: bytes) -> None:
    """The server holds the connection open: the call times out, but its answer is there."""
    async with answering(script, hold=True) as url:
        outcome = classify(await sent(url, PARAMS, read_timeout_s=0.1), 0.0)
    assert isinstance(outcome, Succeeded), outcome


@pytest.mark.parametrize(
    ("script", "partial"),
    [
        (answer(START + BLOCK + DELTAS, STREAM_TYPE), "Hello"),
        (answer(START + BLOCK + DELTAS[:-99], STREAM_TYPE), "Hel"),
        (answer(STREAM[:-9], STREAM_TYPE).replace(END, b""), "Hello"),
        (sized(MESSAGE[:150], extra=99), MESSAGE[:150].decode()),
        (sized(MESSAGE[:150]), MESSAGE[:150].decode()),
        (sized(gzip.compress(MESSAGE, 0)[:150], JSON_TYPE + GZIP), MESSAGE[:99].decode()),
    ],
)
async def test_what_was_received_of_a_cut_answer_is_kept(script: bytes, partial: str) -> None:
    """It is paid: a person may want to read it in the attempt."""
    outcome = await outcome_of(script)
    if partial == "Hello" and b"message_stop" in script:
        assert isinstance(outcome, Succeeded)
        return
    assert isinstance(outcome, Retry), outcome
    assert outcome.partial.startswith(partial)


async def test_an_upstreams_error_inside_a_stream_is_shown() -> None:
    """A gateway sends it in another API's shape."""
    frame = b'data: {"error": {"message": "upstream 429", "type": "None", "code": "429"}}\n\n'
    outcome = await outcome_of(answer(START + BLOCK + DELTAS + frame, STREAM_TYPE))
    assert isinstance(outcome, Snooze)
    assert (outcome.error.type, outcome.error.message) == ("rate_limit_error", "upstream 429")


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (b"999 Denied", Retry),
        (b"600 Odd", Retry),
        (b"101 Switching Protocols", Retry),
        (b"204 No Content", Retry),
        (b"304 Not Modified", Retry),
        (b"302 Found", Suspect),
    ],
)
async def test_an_odd_status_is_an_outcome(status: bytes, expected: type[Outcome]) -> None:
    """Firewalls and proxies make statuses up."""
    assert isinstance(await outcome_of(answer(b"", status=status)), expected)


@pytest.mark.parametrize("status", [b"429 Slow down", b"401 No", b"500 No"])
async def test_an_error_status_stands_when_its_body_never_ends(status: bytes) -> None:
    """A 401 must stop the account even if its body hangs."""
    script = answer(b"{", b"content-length: 99\r\n", status=status)
    async with answering(script, hold=True) as url:
        reply = await sent(url, PARAMS, read_timeout_s=0.05)
    assert isinstance(reply, Reply)
    assert str(reply.status) == status[:3].decode()


async def test_an_answer_that_is_too_large_fails_and_names_the_limit() -> None:
    """The next one would be as large, and paid as well."""
    outcome = await outcome_of(sized(b'"%b"' % (b"x" * 70_000)), max_response_bytes=65_536)
    assert isinstance(outcome, Fail)
    assert outcome.error.type == "response_too_large"
    assert "65,536" in outcome.error.message
    assert "MAX_RESPONSE_BYTES" in outcome.error.message
    assert outcome.error.fix
    assert outcome.partial.startswith('"xxx')


async def test_a_defect_while_reading_keeps_what_was_received(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The call is paid and not repeated; the client raises nothing."""

    def broken(*_: object) -> None:
        raise TypeError("a defect")

    monkeypatch.setattr("nightmill_worker.messages.accumulate.Accumulator._merge", broken)
    async with answering(answer(STREAM, STREAM_TYPE)) as url:
        reply = await sent(url)
    assert isinstance(reply, Broken)
    outcome = classify(reply, 0.0)
    assert isinstance(outcome, Fail)
    assert (outcome.error.type, outcome.raw) == ("internal_error", b"Hello")


async def test_a_defect_while_sending_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was sent."""

    def broken(*_: object, **__: object) -> None:
        raise TypeError("a defect")

    monkeypatch.setattr("nightmill_worker.http.pool.Pool.take", broken)
    outcome = classify(await sent("http://127.0.0.1:9"), 0.0)
    assert isinstance(outcome, Retry)
    assert outcome.error.type == "internal_error"
    assert "a defect" in outcome.error.message
