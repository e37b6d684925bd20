"""Structured outputs: a request that carries its schema, so that the endpoint holds to it.

The endpoint takes a part of JSON Schema: `output_config.format` with type json_schema, objects
closed, no recursion and no limits of numbers and lengths. Limits go into descriptions, which the
model reads; the worker checks the answer against the whole schema. As documented by the provider
on its page "Structured outputs", read in November 2026.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from nightmill.checked.shape import nodes, resolved, root_of

if TYPE_CHECKING:
    from nightmill.checked.shape import Node
    from nightmill.records.acceptance import Acceptance

FIRST: Final = (4, 5)
"""The first version of the model families that takes a schema."""
_FAMILY: Final = re.compile(r"claude-(?:opus|sonnet|haiku)-(\d{1,2})(?:[-.](\d{1,2}))?(?!\d)")
_OLD: Final = re.compile(r"claude-(?:instant|[123])\b")
FORMATS: Final = frozenset(
    {
        *("date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri"),
        "uuid",
    }
)
_KEPT: Final = ("$ref", "type", "enum", "const", "title")
_OWN: Final = frozenset(
    {
        *("$defs", "definitions", "properties", "required", "additionalProperties", "items"),
        *("anyOf", "oneOf", "allOf", "description", "default", "examples", "$schema", "$id"),
    }
)
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class _Turn(msgspec.Struct):
    role: str = ""


_turns = msgspec.json.Decoder(list[_Turn]).decode


class _NotEnforceableError(Exception):
    """The endpoint takes no such schema."""


def structured(body: bytes, accept: Acceptance) -> bytes:
    """Return a request with the schema of its acceptance, or as it is where that cannot be sent.

    It is sent unless the request has a format of its own, ends with an assistant turn or asks for
    citations, and to models that take it; unknown models are taken to be newer ones.
    """
    if not accept.structured or accept.schema is None or accept.schema_tool is not None:
        return body
    schema = enforceable(bytes(accept.schema))
    if schema is None or b'"citations"' in body:
        return body
    try:
        fields = _fields(body)
        config = _fields(fields.get("output_config", b"{}"))
        last = _turns(fields["messages"])[-1].role
        model = msgspec.json.decode(fields["model"], type=str)
    except (msgspec.MsgspecError, KeyError, IndexError, RecursionError):
        return body
    if "format" in config or "output_format" in fields or last != "user" or not takes_schema(model):
        return body
    form = {"type": "json_schema", "schema": schema}
    return _encode({**fields, "output_config": {**config, "format": form}})


def takes_schema(model: str) -> bool:
    """Tell whether a model takes a schema; unknown names are taken to be of newer models."""
    if (found := _FAMILY.search(model)) is not None:
        return (int(found[1]), int(found[2] or 0)) >= FIRST
    return _OLD.search(model) is None


@lru_cache(maxsize=256)
def enforceable(text: bytes) -> Node | None:
    """Return the part of a schema that the endpoint takes, None when it takes nothing of it."""
    root = root_of(text)
    try:
        _require_finite(root)
        return _part(root, root)
    except (_NotEnforceableError, RecursionError):
        return None


def _require_finite(root: Node) -> None:
    """Raise _NotEnforceableError for a schema that refers to itself."""
    above, done = {id(root)}, set[int]()

    def follow(node: object) -> None:
        for each in nodes(node):
            target = resolved(each, root) if "$ref" in each else None
            if id(target) in above:
                raise _NotEnforceableError
            if target is not None and id(target) not in done:
                above.add(id(target))
                follow(target)
                above.remove(id(target))
                done.add(id(target))

    follow(root)


def _part(node: object, root: Node) -> Node:
    """Return what the endpoint takes of one schema."""
    if not isinstance(node, dict):
        raise _NotEnforceableError
    part: Node = {name: node[name] for name in _KEPT if name in node}
    for name in ("$defs", "definitions"):
        if isinstance(defs := node.get(name), dict):
            part[name] = {key: _part(each, root) for key, each in defs.items()}
    for name, sent in (("anyOf", "anyOf"), ("oneOf", "anyOf"), ("allOf", "allOf")):
        if isinstance(ways := node.get(name), list):
            part[sent] = [_part(way, root) for way in ways]
    if isinstance(kinds := part.get("type"), list):
        del part["type"]
        alone = {name: value for name, value in node.items() if name not in ("type", "$defs")}
        part = {"anyOf": [_part({**alone, "type": kind}, root) for kind in kinds], **_notes(part)}
    elif not {"type", "enum", "const", "anyOf", "allOf", "$ref"} & set(part):
        raise _NotEnforceableError
    else:
        part |= _of_type(node, part.get("type"), root)
        part |= _description(node, part)
    return part


def _description(node: Node, part: Node) -> Node:
    """Return the description, which names the limits that are not in `part`."""
    rest = {name: value for name, value in node.items() if name not in part and name not in _OWN}
    limits = ", ".join(f"{name}: {_shown(value)}" for name, value in rest.items())
    texts = [text for text in (node.get("description"), limits) if isinstance(text, str) and text]
    return {"description": "; ".join(texts)} if texts and "$ref" not in part else {}


def _of_type(node: Node, kind: object, root: Node) -> Node:
    """Return the keywords of one type that the endpoint takes."""
    match kind:
        case "object":
            fields = node.get("properties")
            if not isinstance(fields, dict) or not fields:  # a map of any keys cannot be closed
                raise _NotEnforceableError
            required = {"required": node["required"]} if "required" in node else {}
            closed = {name: _part(field, root) for name, field in fields.items()}
            return {"properties": closed, "additionalProperties": False, **required}
        case "array":
            items = {"items": _part(node["items"], root)} if "items" in node else {}
            least = node.get("minItems")
            return items | ({"minItems": least} if least in (0, 1) else {})
        case "string" if node.get("format") in FORMATS:
            return {"format": node["format"]}
    return {}


def _notes(part: Node) -> Node:
    return {name: part[name] for name in ("title", "$defs", "definitions") if name in part}


def _shown(value: Any) -> str:  # noqa: ANN401 - any JSON value
    return _encode(value).decode()[:200]
