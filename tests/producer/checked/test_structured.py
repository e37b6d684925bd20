"""structured: the request carries the part of the schema that the endpoint takes."""

import json
from typing import Any

import pytest

from nightmill.checked.structured import enforceable, structured, takes_schema
from nightmill.records.acceptance import acceptance

SCHEMA = {
    "type": "object",
    "description": "A review",
    "properties": {
        "label": {"enum": ["pos", "neg"]},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5, "description": "How many"},
        "day": {"type": "string", "format": "date"},
        "name": {"type": "string", "format": "regex", "maxLength": 9},
        "note": {"type": ["string", "null"]},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/Tag"}, "minItems": 3},
        "kind": {"oneOf": [{"const": "a"}, {"type": "null"}]},
    },
    "required": ["label"],
    "$defs": {"Tag": {"type": "object", "properties": {"t": {"type": "string"}}}},
}


def request(**more: Any) -> bytes:  # noqa: ANN401
    """Return a request."""
    turns = [{"role": "user", "content": "x"}]
    fields = {"model": "claude-opus-4-6", "max_tokens": 9, "messages": turns, **more}
    return json.dumps(fields).encode()


def test_the_request_carries_what_the_endpoint_takes_of_the_schema() -> None:
    """A schema with a minimum was refused with 400, for every job."""
    accept = acceptance(schema=SCHEMA, structured=True)
    sent = json.loads(structured(request(output_config={"effort": "low"}), accept))
    assert sent["output_config"]["effort"] == "low"
    form = sent["output_config"]["format"]
    assert form["type"] == "json_schema"
    assert form["schema"] == {
        "type": "object",
        "description": "A review",
        "properties": {
            "label": {"enum": ["pos", "neg"]},
            "stars": {"type": "integer", "description": "How many; minimum: 1, maximum: 5"},
            "day": {"type": "string", "format": "date"},
            "name": {"type": "string", "description": 'format: "regex", maxLength: 9'},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "tags": {
                "type": "array",
                "items": {"$ref": "#/$defs/Tag"},
                "description": "minItems: 3",
            },
            "kind": {"anyOf": [{"const": "a"}, {"type": "null"}]},
        },
        "required": ["label"],
        "additionalProperties": False,
        "$defs": {
            "Tag": {
                "type": "object",
                "properties": {"t": {"type": "string"}},
                "additionalProperties": False,
            }
        },
    }


@pytest.mark.parametrize(
    "body",
    [
        request(model="claude-3-5-sonnet-latest"),
        request(model="claude-opus-4-20250514"),
        request(output_config={"format": {"type": "json_schema", "schema": {}}}),
        request(output_format={"type": "json_schema"}),
        request(messages=[{"role": "user", "content": "x"}, {"role": "assistant", "content": "{"}]),
        request(system=[{"type": "text", "text": "x", "citations": {"enabled": True}}]),
        b"[]",
    ],
)
def test_a_request_that_cannot_carry_it_is_sent_as_it_is(body: bytes) -> None:
    """The endpoint refuses a schema beside these; the answer is checked here all the same."""
    assert structured(body, acceptance(schema=SCHEMA, structured=True)) == body


def test_only_a_batch_that_asks_for_it_sends_its_schema() -> None:
    """Sending it is not what a schema means: other endpoints do not know it."""
    assert structured(request(), acceptance(schema=SCHEMA)) == request()
    by_tool = acceptance(schema=SCHEMA, structured=True, schema_tool="t")
    assert structured(request(), by_tool) == request()


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"type": "object", "properties": {"next": {"$ref": "#"}}},
        {"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
        {"type": "object"},
        {"type": "object", "properties": {"a": {}}},
        {"minimum": 3},
        {"type": "array", "items": True},
    ],
)
def test_a_schema_that_the_endpoint_cannot_hold_to_is_only_checked(schema: object) -> None:
    """A recursive schema is refused by the endpoint, and means something here."""
    assert enforceable(json.dumps(schema).encode()) is None


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        ("claude-opus-4-5", True),
        ("claude-sonnet-4-5-20250929", True),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", True),
        ("claude-opus-5", True),
        ("claude-mythos-preview", True),
        ("my-own-model", True),
        ("claude-opus-4-1", False),
        ("claude-sonnet-4-20250514", False),
        ("claude-3-haiku-20240307", False),
        ("claude-2.1", False),
    ],
)
def test_models_from_4_5_on_and_unknown_ones_take_a_schema(model: str, *, takes: bool) -> None:
    """An older model answers such a request with 400."""
    assert takes_schema(model) is takes
