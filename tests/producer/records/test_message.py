"""Result.message is used as it is: a dict for services, its text, its JSON."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, TypeAdapter

from nightmill import AnswerNotJSONError, JobState, Message, Result

RAW = (
    b'{"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-4-6", '
    b'"content": [{"type": "text", "text": "{\\"rivers\\": "}, {"type": "text", "text": "3}"}], '
    b'"stop_reason": "end_turn", "usage": {"input_tokens": 3, "output_tokens": 5}}'
)


def saying(text: str, stop_reason: str = "end_turn") -> Message:
    """Return a message with this text."""
    content = [{"type": "text", "text": text}]
    return Message({"content": content, "stop_reason": stop_reason})


def test_a_message_is_a_dict_with_its_text_and_its_json() -> None:
    """It was raw bytes: a service had to know msgspec to read one field."""
    message = Message(RAW)
    assert message["usage"]["output_tokens"] == 5
    assert message.get("absent") is None
    assert message.text == '{"rivers": 3}'
    assert message.json() == {"rivers": 3}
    assert json.loads(json.dumps(message)) == json.loads(RAW)


def test_a_message_is_returned_by_a_web_service_as_the_api_sent_it() -> None:
    """FastAPI serialises with pydantic: it took the bytes for text, or refused the type."""

    class Reply(BaseModel):
        message: Message

    for value in (Reply(message=Message(RAW)), {"message": Message(RAW)}):
        dumped = TypeAdapter(Any).dump_python(value, mode="json")
        assert dumped == {"message": json.loads(RAW)}
    assert Reply.model_json_schema()["properties"]["message"]["type"] == "object"
    read = Reply.model_validate_json(b'{"message": %s}' % RAW).message
    assert isinstance(read, Message)
    assert read.json() == {"rivers": 3}
    with pytest.raises(ValueError, match="dict"):
        Reply.model_validate({"message": 5})


def test_a_message_is_copied_pickled_and_compared() -> None:
    """Services keep results in caches and send them to other processes."""
    message = Message(RAW)
    row = Result(job_id="j", status=JobState.SUCCEEDED, message=message)
    for same in (
        copy.copy(message),
        copy.deepcopy(message),
        pickle.loads(pickle.dumps(message)),  # noqa: S301 - its own pickle
    ):
        assert type(same) is Message
        assert same == message == json.loads(RAW)
        assert bytes(same) == RAW
        assert same.text == message.text
    assert pickle.loads(pickle.dumps(row)) == row  # noqa: S301 - its own pickle
    assert message != saying("other")


def test_what_took_the_bytes_of_a_message_still_works() -> None:
    """It was a msgspec.Raw before: programs read its bytes, and encode it."""
    message = Message(RAW)
    assert bytes(message) == bytes(message.raw) == RAW
    assert message == msgspec.Raw(RAW)
    assert message != msgspec.Raw(b"{}")
    raw: Any = msgspec.Raw(RAW)
    assert Result(job_id="j", status=JobState.SUCCEEDED, message=raw).message == message
    assert json.loads(msgspec.json.encode({"m": message})) == {"m": json.loads(RAW)}


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (saying("Here it is: {}"), "not JSON.* begins 'Here it is: {}'; ask for JSON alone"),
        (saying('```json\n{"a": 1}\n```'), "code fence"),
        (saying('{"a": [1, 2', "max_tokens"), "cut at max_tokens: give it more"),
        (saying("", "refusal"), r"no text to read as JSON \(stop reason: refusal\)"),
        (saying("[" * 100_000), "not JSON"),
        (Message(b"[]"), "no text"),
    ],
)
def test_an_answer_that_is_not_json_says_why(message: Message, says: str) -> None:
    """A bare JSONDecodeError names neither the answer nor what to change."""
    with pytest.raises(AnswerNotJSONError, match=says) as caught:
        message.json()
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "raw",
    [
        b'{"content": [{"type": "tool_use", "input": {"x": NaN, "y": 1e999}}]}',
        b'{"content": [{"type": "text", "text": "half \\ud800"}]}',
        b'{"content": [], "n": ' + b"9" * 5_000 + b"}",
    ],
)
def test_an_odd_message_can_be_returned_as_json(raw: bytes) -> None:
    """A web framework refuses NaN and half characters: the service would answer 500."""
    json.dumps(Message(raw), ensure_ascii=False, allow_nan=False).encode()
    assert bytes(Message(raw)) == raw
