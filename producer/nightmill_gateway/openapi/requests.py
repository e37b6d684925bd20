"""Schemas of what clients send, as `nightmill.params` and the handlers check it. Pure data."""

from __future__ import annotations

from typing import Any, Final

from nightmill.params import IMAGE_TYPES
from nightmill.records.bounds import MAX_INT
from nightmill_gateway.access.names import NAME
from nightmill_gateway.answers.params import MODEL
from nightmill_gateway.batches.check import CUSTOM_ID, MAX_EXPIRES_S, MAX_REQUESTS
from nightmill_gateway.jobs.shapes import MAX_WAIT_S, RESERVED

Schema = dict[str, Any]

TEXT: Final[Schema] = {"type": "string", "minLength": 1}
STRING: Final[Schema] = {"type": "string"}
OBJECT: Final[Schema] = {"type": "object"}
SHARE: Final[Schema] = {"type": "number", "minimum": 0, "maximum": 1}
TYPED: Final[Schema] = {"type": "object", "required": ["type"], "properties": {"type": TEXT}}


def ref(name: str) -> Schema:
    """Return the reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def listed(items: Schema, **limits: int) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items, **limits}


def either(*schemas: Schema) -> Schema:
    """Return the schema of what one of `schemas` takes."""
    return {"anyOf": list(schemas)}


def _exactly(required: str, properties: Schema, **more: object) -> Schema:
    return {"type": "object", "required": required.split(), "properties": properties, **more}


def _block(kind: str, required: str, **properties: Schema) -> Schema:
    return _exactly(f"type {required}", {"type": {"const": kind}, **properties})


def _other(*kinds: str) -> Schema:
    """Return the schema of an object of a type that has no rules here."""
    kind = {**TEXT, "not": {"enum": list(kinds)}}
    return {"type": "object", "required": ["type"], "properties": {"type": kind}}


_DATA: Final = {**TEXT, "not": {"pattern": "^data:"}}
_IMAGE_SOURCE: Final = either(
    _block("base64", "media_type data", media_type={"enum": list(IMAGE_TYPES)}, data=_DATA),
    _block("text", "media_type data", media_type=TEXT, data=TEXT),
    _block("url", "url", url=TEXT),
    _other("base64", "text", "url"),
)
_DOCUMENT_SOURCE: Final = either(
    _block("base64", "media_type data", media_type=TEXT, data=_DATA),
    _block("text", "media_type data", media_type=TEXT, data=TEXT),
    _block("url", "url", url=TEXT),
    _block("content", "", content={"items": ref("ContentBlock")}),
    _other("base64", "text", "url", "content"),
)
_PARAMS: Final = _exactly(
    "model max_tokens messages",
    {
        "model": {"type": "string", "pattern": f"^{MODEL}$"},
        "max_tokens": {"type": "integer", "minimum": 1, "maximum": MAX_INT},
        "messages": listed(ref("InputMessage"), minItems=1),
        "system": either(STRING, listed(ref("TextBlock"))),
        "temperature": SHARE,
        "top_p": SHARE,
        "top_k": {"type": "integer", "minimum": 0, "maximum": MAX_INT},
        "stop_sequences": listed(STRING),
        "tools": listed(either(TYPED, _exactly("name", {"name": TEXT, "type": False}))),
        "tool_choice": TYPED,
        "metadata": OBJECT,
        "thinking": TYPED,
    },
    description="A request of the Messages API.",
    example={
        "model": "claude-opus-4-6",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": "Name three rivers."}],
    },
)


def _with(schema: Schema, **properties: Schema) -> Schema:
    return {**schema, "properties": {**schema["properties"], **properties}}


REQUESTS: Final[Schema] = {
    "TextBlock": _block("text", "text", text=TEXT),
    "ContentBlock": either(
        ref("TextBlock"),
        _block("image", "source", source=_IMAGE_SOURCE),
        _block("document", "source", source=_DOCUMENT_SOURCE),
        _block("tool_use", "id name input", id=TEXT, name=TEXT, input=OBJECT),
        _block(
            "tool_result",
            "tool_use_id",
            tool_use_id=TEXT,
            content=either(STRING, listed(ref("ContentBlock"))),
        ),
        _other("text", "image", "document", "tool_use", "tool_result"),
    ),
    "InputMessage": _exactly(
        "role content",
        {
            "role": {"enum": ["user", "assistant"]},
            "content": either(TEXT, listed(ref("ContentBlock"), minItems=1)),
        },
    ),
    "MessagesRequest": _with(_PARAMS, stream={"type": "boolean"}),
    "MessageParams": _with(_PARAMS, stream={"const": False}),
    "CreateBatch": _exactly(
        "requests",
        {
            "requests": listed(ref("BatchRequest"), minItems=1, maxItems=MAX_REQUESTS),
            "nightmill": _exactly(
                "",
                {"expires_in": {"type": "number", "minimum": 1, "maximum": MAX_EXPIRES_S}},
                additionalProperties=False,
            ),
        },
        additionalProperties=False,
    ),
    "BatchRequest": _exactly(
        "custom_id params",
        {
            "custom_id": {
                "type": "string",
                "pattern": f"^{CUSTOM_ID}$",
                "description": "Another one for each request of the batch.",
                "example": "c1",
            },
            "params": ref("MessageParams"),
        },
        additionalProperties=False,
    ),
    "CreateJob": _exactly(
        "params",
        {
            "params": ref("MessageParams"),
            "id": {"type": ["string", "null"], "pattern": f"^{NAME}$"},
            "batch": {
                "type": ["string", "null"],
                "pattern": f"^{NAME}$",
                "not": {"enum": list(RESERVED)},
            },
            "wait": {"type": "number", "minimum": 0, "maximum": MAX_WAIT_S},
        },
        additionalProperties=False,
    ),
}
"""Name -> schema."""
