"""A stream that is made of a whole Message makes the same Message at its reader."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nightmill_gateway.answers.errors import ApiError
from nightmill_gateway.messages.events import PING, error_event, events
from nightmill_worker.messages.accumulate import Accumulator
from nightmill_worker.messages.sse import Event

MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 7, "output_tokens": 5, "cache_read_input_tokens": 3},
}
CITATION = {"type": "char_location", "cited_text": "x", "document_index": 0}


def read(body: bytes) -> list[Event]:
    """Return the events in the bytes of a stream."""
    found = []
    for part in body.split(b"\n\n")[:-1]:
        name, data = part.split(b"\n")
        found.append(
            Event(name=name.removeprefix(b"event: ").decode(), data=data.removeprefix(b"data: "))
        )
    return found


@pytest.mark.parametrize(
    "content",
    [
        [],
        [{"type": "text", "text": ""}],
        [{"type": "text", "text": '漢字\n\n"x"'}],
        [{"type": "text", "text": "a", "citations": [CITATION, CITATION]}],
        [
            {"type": "thinking", "thinking": "hm", "signature": "sig"},
            {"type": "text", "text": "a"},
        ],
        [{"type": "redacted_thinking", "data": "xyz"}],
        [{"type": "tool_use", "id": "t", "name": "n", "input": {"a": [1, None, "é"]}}],
        [{"type": "tool_use", "id": "t", "name": "n", "input": {}}],
        [{"type": "server_tool_use", "id": "t", "name": "web_search", "input": {"q": "x"}}],
        [{"type": "web_search_tool_result", "tool_use_id": "t", "content": [{"type": "x"}]}],
        [{"type": "of_the_future", "what": {"input": 1}}],
    ],
)
def test_the_reader_has_the_same_message(content: list[dict[str, Any]]) -> None:
    """Blocks of every kind, also of kinds that do not exist yet."""
    message = {**MESSAGE, "content": content}
    reader = Accumulator()
    for event in read(b"".join([PING, *events(message)])):
        reader.add(event)
    assert reader.done
    assert json.loads(reader.body()) == message


def test_the_order_of_events() -> None:
    """The SDKs need message_start first and each block between its start and its stop."""
    message = {**MESSAGE, "content": [{"type": "text", "text": "a"}] * 2}
    block = ["content_block_start", "content_block_delta", "content_block_stop"]
    found = read(b"".join(events(message)))
    assert [event.name for event in found] == [
        *("message_start", *block, *block, "message_delta", "message_stop")
    ]
    begun = json.loads(found[0].data)["message"]
    assert (begun["content"], begun["stop_reason"]) == ([], None)
    assert begun["usage"]["output_tokens"] == 0


def test_an_error_after_the_begin() -> None:
    """The status was sent already, so the error is an event."""
    (event,) = read(error_event(ApiError(529, "busy"), "req_1"))
    assert event.name == "error"
    assert json.loads(event.data) == {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "busy"},
        "request_id": "req_1",
    }
