"""The body of an answer from its chunks: what it is decides, not what its header says."""

from __future__ import annotations

import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightmill_worker.messages.body import BodyBuilder
from nightmill_worker.messages.limits import AnswerLimits
from nightmill_worker.messages.outcome import AnswerError
from tests.worker.messages.endpoint import EVENTS, MESSAGE, sse

LIMITS = AnswerLimits(response_bytes=5000, event_bytes=500, events=50, blocks=5)
STREAM = sse(EVENTS)
JSON = json.dumps(MESSAGE).encode()
TYPES = [
    "text/event-stream",
    "Text/Event-Stream; charset=UTF-8",
    " text/event-stream",
    "application/json",
    "text/plain",
    "",
]


def built(*chunks: bytes, content_type: str = "", limits: AnswerLimits = LIMITS) -> bytes:
    """Return the body that arrives in `chunks`."""
    builder = BodyBuilder(limits, content_type)
    for chunk in chunks:
        builder.feed(chunk)
    return builder.body()


@pytest.mark.parametrize("content_type", TYPES)
@given(cuts=st.lists(st.integers(0, 600), max_size=6))
def test_a_stream_and_a_json_body_are_told_apart(content_type: str, cuts: list[int]) -> None:
    """Media types have no case, and gateways name a stream text/plain or JSON a stream."""
    for body in (STREAM, b"\xef\xbb\xbf" + STREAM, JSON):
        edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
        chunks = [body[a:b] for a, b in pairwise(edges) if a < b]
        assert msgspec.json.decode(built(*chunks, content_type=content_type)) == MESSAGE


@pytest.mark.parametrize(
    ("chunks", "content_type"),
    [
        ([b"x" * 5001], ""),
        ([b"x" * 4000, b"x" * 4000], "application/json"),
        ([b"data: " + b"x" * 501], "text/event-stream"),
        ([b"data: ", b"x" * 300, b"x" * 300], "text/event-stream"),
        ([b"data: x\n" * 260 + b"\n"], "text/event-stream"),
        ([b"data: {}\n\n" * 51], "text/event-stream"),
    ],
)
def test_each_limit_ends_an_answer(chunks: list[bytes], content_type: str) -> None:
    """Memory for one answer is bounded."""
    with pytest.raises(AnswerError) as caught:
        built(*chunks, content_type=content_type)
    assert caught.value.kind == "response_too_large"
    assert any(character.isdigit() for character in str(caught.value))


def broken_off(*chunks: bytes, content_type: str = "") -> BodyBuilder:
    """Return a builder whose answer broke off after `chunks`."""
    builder = BodyBuilder(LIMITS, content_type)
    for chunk in chunks:
        builder.feed(chunk)
    return builder


def test_an_answer_that_broke_off_may_be_whole() -> None:
    """A wrong content-length or a connection that stays open does not matter then."""
    assert broken_off(JSON).rescued() == JSON
    assert broken_off(JSON[:9], JSON[9:]).rescued() == JSON
    assert broken_off(JSON[:-1]).rescued() is None
    assert broken_off().rescued() is None
    ended = sse([*EVENTS[:-1], {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}])
    rescued = broken_off(ended, content_type=TYPES[0]).rescued()
    assert rescued is not None
    assert msgspec.json.decode(rescued)["stop_reason"] == "end_turn"
    assert broken_off(sse(EVENTS[:-1]), content_type=TYPES[0]).rescued() is None


def test_what_was_received_is_kept() -> None:
    """As the text of a stream, else as the beginning of the body."""
    assert broken_off(sse(EVENTS[:-1])).partial() == "hey"
    assert broken_off(JSON[:9], JSON[9:20]).partial() == JSON[:20].decode()
    assert broken_off().partial() == ""


@pytest.mark.parametrize("text", [b"<html><title>Sign in</title></html>", b"upstream is gone"])
def test_a_text_that_is_named_a_stream_is_kept(text: bytes) -> None:
    """Its words were lost: the stream had "ended without message_stop"."""
    assert built(text, content_type="text/event-stream") == text
    assert broken_off(text, content_type="text/event-stream").partial() == text.decode()
