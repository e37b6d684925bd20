"""Streams that lack what their Message does not need, and streams that were cut."""

from __future__ import annotations

import msgspec
import pytest

from nightmill_worker.messages.accumulate import Accumulator
from nightmill_worker.messages.outcome import AnswerError
from nightmill_worker.messages.sse import Event
from tests.worker.messages.test_accumulate import (
    START,
    STOP,
    Fields,
    block,
    ending,
    event,
    rebuilt,
    text_delta,
    tool,
)

HELLO = block(0, {"type": "text", "text": ""}, text_delta("Hel"), text_delta("lo"))
TEXT = [{"type": "text", "text": "Hello"}]


def raw(name: str, data: bytes) -> Event:
    """Return an event with exactly these data."""
    return Event(name=name, data=data)


def fed(*events: Event | Fields) -> Accumulator:
    """Return an accumulator that has taken these events."""
    accumulator = Accumulator()
    for each in events:
        accumulator.add(each if isinstance(each, Event) else event(each))
    return accumulator


def message(*events: Event | Fields) -> Fields:
    """Return the Message that a stream of `events` makes."""
    found: Fields = msgspec.json.decode(fed(*events).body())
    return found


def texts(*pieces: bytes) -> list[Event]:
    """Return text deltas whose texts are exactly these JSON strings."""
    head = b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":'
    return [raw("content_block_delta", head + piece + b"}}") for piece in pieces]


def test_a_stop_reason_ends_a_message_without_message_stop() -> None:
    """The text is whole: the model has stopped."""
    found = rebuilt(START, *HELLO, ending())
    assert (found["content"], found["stop_reason"]) == (TEXT, "end_turn")


def test_a_stream_without_message_start_is_a_message() -> None:
    """A real llama.cpp server sends 3 % of its streams so. The model is not known then."""
    found = rebuilt(*HELLO, ending(), STOP)
    assert found == {
        "type": "message",
        "role": "assistant",
        "model": "",
        "content": TEXT,
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"output_tokens": 15},
    }


def test_a_late_message_start_keeps_the_blocks() -> None:
    """Its place in the stream does not matter."""
    found = rebuilt(*HELLO, START, ending(), STOP)
    assert (found["content"], found["id"]) == (TEXT, "msg_1")


def test_a_second_message_start_begins_anew() -> None:
    """A proxy that calls another server in the middle of an answer sends both in one stream."""
    other = block(0, {"type": "text", "text": ""}, text_delta("other"))
    late = block(1, {"type": "text", "text": "lost"})
    found = rebuilt(START, *HELLO, *late, ending("max_tokens"), START, *other, ending(), STOP)
    assert found["content"] == [{"type": "text", "text": "other"}]
    assert found["stop_reason"] == "end_turn"


@pytest.mark.parametrize("kind", ["text", "thinking"])
def test_a_text_without_content_block_start_is_kept(kind: str) -> None:
    """Its delta says what block it belongs to."""
    delta = {"type": f"{kind}_delta", kind: "hey"}
    found = rebuilt(
        START, {"type": "content_block_delta", "index": 1, "delta": delta}, ending(), STOP
    )
    assert found["content"] == [{"type": kind, kind: "hey"}]


def test_a_message_may_come_whole_in_message_start() -> None:
    """A server that does not stream may answer a stream with two events."""
    start: Fields = {"type": "message_start", "message": {"type": "message", "content": TEXT}}
    assert rebuilt(start, STOP)["content"] == TEXT


@pytest.mark.parametrize(
    "usage", [b"null", b"[]", b"7", b'{"output_tokens": null}', b'{"output_tokens": NaN}']
)
def test_usage_of_any_kind_in_message_delta(usage: bytes) -> None:
    """Usage is not the answer. The output tokens of message_start are preliminary: unknown."""
    data = b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":%b}' % usage
    found = message(START, *HELLO, raw("message_delta", data), STOP)
    assert found["content"] == TEXT
    assert found["usage"] == {"input_tokens": 25, "cache_read_input_tokens": 7}


@pytest.mark.parametrize("usage", [b"null", b"[]", b"7"])
def test_usage_of_any_kind_in_message_start(usage: bytes) -> None:
    """What message_delta reports replaces it."""
    data = b'{"type":"message_start","message":{"type":"message","usage":%b}}' % usage
    assert message(raw("message_start", data), *HELLO, ending(), STOP)["usage"] == {
        "output_tokens": 15
    }


def test_a_later_message_delta_ends_nothing() -> None:
    """A second one carries usage and nulls."""
    last: Fields = {"type": "message_delta", "delta": {"stop_reason": None}, "usage": {"n": 1}}
    found = rebuilt(START, *HELLO, ending(), last)
    assert found["stop_reason"] == "end_turn"


@pytest.mark.parametrize("data", [b"[DONE]", b"", b"{}", b'{"type": "message_start"}'])
def test_nothing_after_message_stop_changes_the_message(data: bytes) -> None:
    """Servers that speak two dialects end their stream twice."""
    for name in ("message", "error", "message_stop", "message_start"):
        assert message(START, *HELLO, ending(), STOP, raw(name, data))["content"] == TEXT


@pytest.mark.parametrize("data", [b"[DONE]", b"", b"null", b"7", b"<html>"])
def test_data_without_a_name_that_are_no_object_are_ignored(data: bytes) -> None:
    """`[DONE]` may come in place of message_stop, or before it."""
    done = raw("message", data)
    assert message(START, *HELLO, done, ending(), done, STOP)["content"] == TEXT


@pytest.mark.parametrize("data", [b"", b"x", b"[]", b'{"type": "message_stop"'])
def test_message_stop_needs_no_data(data: bytes) -> None:
    """Its name says all."""
    assert message(START, *HELLO, raw("message_stop", data))["content"] == TEXT


def test_an_unknown_name_goes_by_the_type_in_the_data() -> None:
    """Some gateways name every event `data` or `completion`."""
    stream = (START, *HELLO, ending(), STOP)
    renamed = [event(each, name="completion") for each in stream]
    assert message(*renamed)["content"] == TEXT


@pytest.mark.parametrize("index", [b'"0"', b"0.0", b"null", b"{}"])
def test_an_index_of_any_kind(index: bytes) -> None:
    """Most answers have one block."""
    data = b'{"index":%b,"delta":{"type":"text_delta","text":"!"}}' % index
    found = message(START, *HELLO, raw("content_block_delta", data), ending(), STOP)
    assert found["content"] == [{"type": "text", "text": "Hello!"}]


@pytest.mark.parametrize("text", [b"null", b"7", b"[]"])
def test_a_text_of_any_kind(text: bytes) -> None:
    """Only a string is appended, and a null changes nothing."""
    found = message(START, *HELLO, *texts(b"null"), ending(), STOP)
    assert found["content"] == TEXT
    assert fed(START, *HELLO, *texts(text), ending(), STOP).body()


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([rb'"a\ud83d"'], "Helloa\ufffd"),
        ([rb'"\ud83d"', rb'"\ude00"'], "Hello\U0001f600"),
        ([rb'"\ud83d"', b'"x"', rb'"\ude00"'], "Hello\ufffdx\ufffd"),
        ([b'"a\nb"'], "Helloa\nb"),
        ([b'"\xc3"', b'"\xa9"'], "Helloé"),
    ],
)
def test_a_character_cut_between_deltas(pieces: list[bytes], expected: str) -> None:
    """Half of a surrogate pair is joined with the other half, or becomes U+FFFD."""
    found = message(START, *HELLO, *texts(*pieces), ending(), STOP)
    assert found["content"] == [{"type": "text", "text": expected}]


def test_nan_in_a_tools_input_is_null() -> None:
    """Servers written in Python send it, and no JSON reader takes it."""
    events = [START, *tool('{"n": Na', 'N, "m": [-Infinity]}'), ending("tool_use"), STOP]
    found = msgspec.convert(rebuilt(*events)["content"], list[Fields])
    assert found[0]["input"] == {"n": None, "m": [None]}


@pytest.mark.parametrize("name", ["message", "error"])
def test_an_error_frame_of_another_api_ends_the_stream(name: str) -> None:
    """It has no type; its text must not be lost."""
    data = b'{"error": {"message": "upstream 429", "type": "None", "code": "429"}}'
    accumulator = fed(START, *HELLO, raw(name, data))
    assert accumulator.done
    assert accumulator.body() == data


def test_an_error_after_the_stop_reason_does_not_spoil_the_message() -> None:
    """The answer is whole and paid."""
    assert message(START, *HELLO, ending(), raw("error", b"{}"))["content"] == TEXT


@pytest.mark.parametrize(
    "events",
    [
        [],
        [STOP],
        [ending(), STOP],
        [START, *HELLO],
        HELLO,
        [{"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta"}}],
    ],
)
def test_what_was_cut_is_no_message(events: list[Fields]) -> None:
    """Neither is a stream without any content."""
    with pytest.raises(AnswerError):
        rebuilt(*events)


def test_what_was_received_of_a_cut_answer_is_text() -> None:
    """A person reads it in the attempt."""
    thought: Fields = {"type": "thinking_delta", "thinking": 'é "\n'}
    thinking = block(1, {"type": "thinking", "thinking": ""}, thought)[:-1]
    accumulator = fed(START, *HELLO, *thinking, *texts(rb'"\ud83d"'))
    assert accumulator.partial().startswith("Hello")
    assert accumulator.partial().endswith('\n\né "\n')
    assert accumulator.partial().encode()


@pytest.mark.parametrize("text", [b"x", rb"\u00e9", rb"\ud83d\ude00", "é".encode(), rb"\\"])
def test_what_is_kept_of_a_long_answer_is_bounded(text: bytes) -> None:
    """The cut may fall inside an escape or a character."""
    for extra in range(13):
        piece = b'"%b%b"' % (b"a" * extra, text * 70_000)
        kept = fed(START, *HELLO, *texts(piece)).partial()
        assert 1000 < len(kept.encode()) <= 64 << 10
        assert not kept.endswith("\\u")


def test_blocks_are_bounded() -> None:
    """Each takes half a kilobyte."""
    accumulator = Accumulator(max_blocks=3)
    for index in range(3):
        accumulator.add(event(block(index, {"type": "text"})[0]))
    with pytest.raises(AnswerError) as caught:
        accumulator.add(event(block(3, {"type": "text"})[0]))
    assert caught.value.kind == "response_too_large"


@pytest.mark.parametrize(
    "frame",
    [
        b'{"error":{"message":"upstream 429: rate limit","type":"None","code":"429"}}',
        b'{"error":"upstream 429"}',
        b'{"code":429,"message":"upstream 429"}',
        b'{"object":"error","message":"upstream 429","code":429}',
    ],
)
def test_an_error_frame_of_another_api_ends_a_stream(frame: bytes) -> None:
    """Its text was lost: the stream had "ended without message_stop"."""
    assert fed(START, *HELLO, raw("message", frame)).body() == frame


def test_an_error_event_that_is_no_json_is_an_error_with_that_text() -> None:
    """A proxy wrote its own words in the place of the API's object."""
    body = fed(START, raw("error", b"upstream is gone")).body()
    assert msgspec.json.decode(body)["error"] == "upstream is gone"


@pytest.mark.parametrize("frame", [b'{"odd":"the reason"}', b"the reason"])
def test_the_last_words_of_a_cut_stream_are_kept(frame: bytes) -> None:
    """An event of no known kind may say why the stream was cut."""
    with pytest.raises(AnswerError, match=r"message_stop; its last event: .*the reason"):
        fed(START, *HELLO, raw("message", frame), raw("message", b"[DONE]")).body()
