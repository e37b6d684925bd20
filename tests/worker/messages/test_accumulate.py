"""Each event kind of the Messages streaming format, built into one Message."""

from __future__ import annotations

from typing import TypeAlias

import msgspec
import pytest

from nightmill_worker.messages.accumulate import Accumulator
from nightmill_worker.messages.outcome import AnswerError
from nightmill_worker.messages.sse import Event

Fields: TypeAlias = dict[str, object]

START: Fields = {
    "type": "message_start",
    "message": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "claude-opus-4-6",
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 25, "output_tokens": 1, "cache_read_input_tokens": 7},
    },
}
STOP: Fields = {"type": "message_stop"}


def event(data: Fields, *, name: str | None = None) -> Event:
    """Return the event that an endpoint sends for `data`. Its name is its type."""
    return Event(name=name or str(data["type"]), data=msgspec.json.encode(data))


def ending(stop_reason: str = "end_turn", **more: object) -> Fields:
    """Return a message_delta that ends the message."""
    delta = {"stop_reason": stop_reason, "stop_sequence": None}
    return {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 15}, **more}


def block(index: int, start: Fields, *deltas: Fields) -> list[Fields]:
    """Return the events of one content block."""
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def rebuilt(*events: Fields) -> Fields:
    """Return the Message that a stream of `events` makes."""
    accumulator = Accumulator()
    for data in events:
        accumulator.add(event(data))
    message: Fields = msgspec.json.decode(accumulator.body())
    return message


def content(*events: Fields) -> object:
    """Return only the content of a message with these block events."""
    return rebuilt(START, *events, ending(), STOP)["content"]


def tool(*pieces: str) -> list[Fields]:
    """Return the events of a tool_use block whose input comes in `pieces`."""
    start = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    deltas: list[Fields] = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return block(0, dict(start), *deltas)


def text_delta(text: str) -> Fields:
    """Return one text_delta."""
    return {"type": "text_delta", "text": text}


def test_a_text_message_is_the_message_an_unstreamed_call_returns() -> None:
    """Usage in message_delta is cumulative: it replaces the usage of message_start."""
    hello = block(0, {"type": "text", "text": ""}, text_delta("Hel"), text_delta("lo é"))
    assert rebuilt(START, {"type": "ping"}, *hello, ending(), STOP) == {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "Hello é"}],
        "model": "claude-opus-4-6",
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 25, "output_tokens": 15, "cache_read_input_tokens": 7},
    }


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ((), {}),
        (("",), {}),
        (("", '{"city": "San', ' Fra", "n"', ": [1, 2.50]}"), {"city": "San Fra", "n": [1, 2.5]}),
        (('{"big": 123456789012345678901234567890}',), {"big": 123456789012345678901234567890}),
    ],
)
def test_tool_input_is_the_json_of_its_pieces(pieces: tuple[str, ...], expected: Fields) -> None:
    """Pieces are cut anywhere. A tool without arguments sends no piece or an empty one."""
    found = content(*tool(*pieces))
    assert found == [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": expected}]


def test_thinking_keeps_its_signature() -> None:
    """Without its signature the block cannot be sent back in a later turn."""
    start: Fields = {"type": "thinking", "thinking": "", "signature": ""}
    deltas: list[Fields] = [
        {"type": "thinking_delta", "thinking": "First, "},
        {"type": "thinking_delta", "thinking": "then."},
        {"type": "signature_delta", "signature": "EqQBCg=="},
    ]
    expected = {"type": "thinking", "thinking": "First, then.", "signature": "EqQBCg=="}
    assert content(*block(0, start, *deltas)) == [expected]


def test_citations_are_collected_beside_the_text() -> None:
    """Each citation comes in its own delta, between the pieces of its text."""
    cites: list[Fields] = [
        {"type": "citations_delta", "citation": {"cited_text": text}} for text in "ab"
    ]
    start: Fields = {"type": "text", "text": "", "citations": None}
    found = content(*block(0, start, text_delta("x"), cites[0], text_delta("y"), cites[1]))
    citations = [{"cited_text": "a"}, {"cited_text": "b"}]
    assert found == [{"type": "text", "text": "xy", "citations": citations}]


def test_unknown_deltas_and_blocks_are_kept_by_the_general_rule() -> None:
    """Strings are appended and other values replace, so nothing of an answer is lost."""
    start: Fields = {"type": "hologram", "beams": None, "state": 0}
    deltas: list[Fields] = [
        {"type": "hologram_delta", "beams": "ab", "state": 1},
        {"type": "hologram_delta", "beams": "c", "state": 2},
    ]
    assert content(*block(0, start, *deltas)) == [{"type": "hologram", "beams": "abc", "state": 2}]


def test_blocks_without_deltas_and_interleaved_blocks_keep_their_place() -> None:
    """A redacted block comes whole in its start event. The index gives the order."""
    late = block(1, {"type": "text", "text": ""}, text_delta("b"))
    whole: Fields = {"type": "redacted_thinking", "data": "xyz"}
    early = block(0, dict(whole))
    assert content(late[0], *early, *late[1:]) == [whole, {"type": "text", "text": "b"}]


def test_message_delta_adds_all_its_fields() -> None:
    """`container` is inside the delta and `context_management` beside it."""
    last = ending(context_management={"applied_edits": []})
    last["delta"] = {
        "stop_reason": "stop_sequence",
        "stop_sequence": "END",
        "container": {"id": "c"},
    }
    last["usage"] = {"output_tokens": 3, "input_tokens": None, "server_tool_use": {"searches": 1}}
    message = rebuilt(START, ending(), last, STOP)
    assert message["stop_sequence"] == "END"
    assert message["container"] == {"id": "c"}
    assert message["context_management"] == {"applied_edits": []}
    assert message["usage"] == {
        "input_tokens": 25,
        "output_tokens": 3,
        "cache_read_input_tokens": 7,
        "server_tool_use": {"searches": 1},
    }


def test_unknown_events_are_ignored_even_when_they_are_not_json() -> None:
    """The API may add event types at any time."""
    accumulator = Accumulator()
    for step in (event(START), Event(name="news", data=b"<html>"), event(ending()), event(STOP)):
        accumulator.add(step)
    assert accumulator.done


def test_events_without_a_name_go_by_the_type_in_their_data() -> None:
    """Some gateways drop the `event:` line."""
    accumulator = Accumulator()
    stream: list[Fields] = [START, {"type": "ping"}, ending(), STOP]
    for data in stream:
        accumulator.add(event(data, name="message"))
    assert accumulator.done
    assert msgspec.json.decode(accumulator.body())["stop_reason"] == "end_turn"


@pytest.mark.parametrize("name", ["error", "message"])
def test_an_error_event_ends_the_stream_with_its_own_body(name: str) -> None:
    """The classifier reads it like the body of an error status."""
    error: Fields = {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "Overloaded"},
    }
    accumulator = Accumulator()
    accumulator.add(event(START))
    accumulator.add(event(error, name=name))
    assert accumulator.done
    assert msgspec.json.decode(accumulator.body()) == error


def test_without_message_stop_there_is_no_message() -> None:
    """A stream that ends before its stop_reason is cut."""
    with pytest.raises(AnswerError) as caught:
        rebuilt(START, *block(0, {"type": "text", "text": "x"}))
    assert caught.value.kind == "truncated_response"


@pytest.mark.parametrize(
    ("stop_reason", "kind"), [("tool_use", "invalid_response"), ("max_tokens", "input_cut")]
)
@pytest.mark.parametrize("piece", ['{"city": "San', "[1]", "{'a': 1}"])
def test_broken_tool_input_is_never_a_message(piece: str, stop_reason: str, kind: str) -> None:
    """An input cut by max_tokens has its own kind, because a retry would be cut again."""
    with pytest.raises(AnswerError) as caught:
        rebuilt(START, *tool(piece), ending(stop_reason), STOP)
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    "broken",
    [
        Event(name="message_delta", data=b"{"),
        Event(name="content_block_delta", data=b'{"index": 9, "delta": {}}'),
        Event(name="message_start", data=b'{"message": ' + b'{"a":' * 5000 + b"}" * 5001),
    ],
)
def test_data_that_breaks_the_contract_is_an_answer_error(broken: Event) -> None:
    """No other exception leaves the accumulator, whatever an endpoint sends."""
    accumulator = Accumulator()
    accumulator.add(event(START))
    with pytest.raises(AnswerError) as caught:
        accumulator.add(broken)
    assert caught.value.kind == "invalid_response"


def test_a_message_delta_needs_a_message() -> None:
    """A stream that begins in the middle is not a message."""
    with pytest.raises(AnswerError):
        rebuilt(ending(), STOP)
