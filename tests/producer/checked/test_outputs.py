"""problem_of and parsed_of: the output of a whole answer."""

import json

import msgspec
import pytest

from nightmill.checked.outputs import parsed_of, problem_of
from nightmill.records.acceptance import Acceptance, acceptance
from nightmill.records.message import Message

LABEL = acceptance(schema={"type": "object", "required": ["label"]})
BY_TOOL = acceptance(schema={"type": "object", "required": ["label"]}, schema_tool="tag")


def text_of(*texts: str) -> bytes:
    """Return a message with these text blocks."""
    blocks = [{"type": "thinking", "thinking": '{"label": 1}'}]
    blocks += [{"type": "text", "text": each} for each in texts]
    return msgspec.json.encode({"content": blocks, "usage": {"input_tokens": 1}})


def use_of(name: str, given: object) -> bytes:
    """Return a message that uses a tool."""
    block = {"type": "tool_use", "id": "t", "name": name, "input": given}
    return msgspec.json.encode({"content": [{"type": "text", "text": '{"label": 9}'}, block]})


@pytest.mark.parametrize(
    ("message", "asked"),
    [
        (text_of('{"label": "pos"}'), LABEL),
        (text_of("Here:\n```json\n", '{"label": "pos"}\n```'), LABEL),
        (use_of("tag", {"label": "pos"}), BY_TOOL),
    ],
)
def test_the_output_is_the_text_or_the_input_of_a_tool(message: bytes, asked: Acceptance) -> None:
    """A reader finds the very value that the worker checked."""
    assert problem_of(message, asked) == ({"label": "pos"}, None)
    assert problem_of(Message(message), asked) == ({"label": "pos"}, None)
    assert parsed_of(Message(message), asked) == {"label": "pos"}


@pytest.mark.parametrize(
    ("message", "asked", "problem"),
    [
        (text_of("no"), LABEL, 'given a text that begins "no"; expected JSON'),
        (text_of('{"a": 1}'), LABEL, '$: given an object without "label", expected the field'),
        (text_of(), LABEL, "the answer has no text"),
        (use_of("other", {"label": 1}), BY_TOOL, "given no use of the tool tag; expected one"),
        (use_of("tag", [1]), BY_TOOL, '$: given [1], expected type "object"'),
        (use_of("tag", 1 << 70), BY_TOOL, "given an integer of 22 digits"),
        (b'{"content": null}', LABEL, "the answer has no text"),
        (b"[]", LABEL, "the answer has no text"),
        (b"\xff", BY_TOOL, "given no use of the tool tag"),
    ],
)
def test_an_answer_that_does_not_fit_has_a_problem(
    message: bytes, asked: Acceptance, problem: str
) -> None:
    """Nothing raises, whatever the message is."""
    output, found = problem_of(message, asked)
    assert output is None
    assert found is not None
    assert found.startswith(problem)


def test_without_a_schema_nothing_is_checked() -> None:
    """A batch without a schema has no output."""
    assert problem_of(text_of("x"), acceptance()) == (None, None)
    assert parsed_of(Message(text_of("5")), acceptance()) is None
    assert parsed_of(None, LABEL) is None


def test_a_reader_needs_no_validator(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base install reads outputs; only the check needs the extra."""
    monkeypatch.setitem(__import__("sys").modules, "jsonschema_rs", None)
    fresh = acceptance(schema={"type": "object", "required": ["label"], "title": "unseen"})
    message = text_of(json.dumps({"label": 1}) + " and [2]")
    assert parsed_of(Message(message), fresh) == {"label": 1}
