"""The contract: one rule for each field and block type.

A rule takes a dotted path and the value at it, and raises InvalidParamsError for a bad value. Rules
look only at names in the contract, so newer block types pass. Unknown fields pass these rules too:
`request.check` warns of them or refuses them. null is refused in every field with a rule: leave
the field out instead. null passes in other fields, such as `citations`, which the official clients
write as null when an answer is sent back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from nightmill.params.files import IMAGE_TYPES, require_reference
from nightmill.params.names import closest
from nightmill.params.refusal import MISSING, refused
from nightmill.records.bounds import MAX_INT

Rule = Callable[[str, object], None]
Object = dict[str, object]

_A_TEXT: Final = "a non-empty string"
_MESSAGES: Final = "a non-empty list of messages"


def require_request(request: Object) -> None:
    """Apply every rule to `request` (decoded JSON); raise InvalidParamsError for the first fault.

    Defaults for `model` and `max_tokens` must be in it already.
    """
    if "messages" not in request:
        raise refused("messages", MISSING, _MESSAGES)
    for name, value in request.items():
        if name in FIELDS:
            FIELDS[name](name, value)


def _text(path: str, value: object) -> None:
    if not isinstance(value, str) or not value:
        raise refused(path, value, _A_TEXT)


def _boolean(path: str, value: object) -> None:
    if not isinstance(value, bool):
        raise refused(path, value, "true or false")


def _share(path: str, value: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:  # type: ignore[operator]
        raise refused(path, value, "a number from 0 to 1")


def _at_least(least: int) -> Rule:
    def rule(path: str, value: object) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise refused(path, value, f"an integer of at least {least}")
        if value > MAX_INT:
            raise refused(path, value, f"an integer of at most {MAX_INT:,} (64 bits)")

    return rule


def _object(path: str, value: object) -> Object:
    if not isinstance(value, dict):
        raise refused(path, value, "an object")
    return value


def _an_object(path: str, value: object) -> None:
    _object(path, value)


def _typed(path: str, value: object) -> tuple[str, Object]:
    """Return the `type` of an object and the object; refuse one without a type."""
    found = _object(path, value)
    kind = found.get("type", MISSING)
    if not isinstance(kind, str) or not kind:
        raise refused(f"{path}.type", kind, _A_TEXT)
    return kind, found


def _a_typed_object(path: str, value: object) -> None:
    _typed(path, value)


def _strings(path: str, value: object) -> None:
    if not isinstance(value, list):
        raise refused(path, value, "a list of strings")
    for index, item in enumerate(value):
        if not isinstance(item, str):
            raise refused(f"{path}.{index}", item, "a string")


def _tools(path: str, value: object) -> None:
    if not isinstance(value, list):
        raise refused(path, value, "a list of tools")
    for index, item in enumerate(value):
        where = f"{path}.{index}"
        tool = _object(where, item)
        if "type" not in tool:
            _text(f"{where}.name", tool.get("name", MISSING))


def _messages(path: str, value: object) -> None:
    if not isinstance(value, list) or not value:
        raise refused(path, value, _MESSAGES)
    for index, item in enumerate(value):
        where = f"{path}.{index}"
        message = _object(where, item)
        _role(f"{where}.role", message.get("role", MISSING))
        content = message.get("content", MISSING)
        last = index == len(value) - 1
        if last and message["role"] == "assistant" and content in ("", []):
            return  # the endpoint accepts it: the answer starts at nothing
        _content(f"{where}.content", content)


def _role(path: str, value: object) -> None:
    if value in ("user", "assistant"):
        return
    fix = "move it to `system`" if value == "system" else None
    raise refused(path, value, "user or assistant", fix=fix)


def _content(path: str, value: object) -> None:
    if not value or not isinstance(value, str | list):
        raise refused(path, value, "a non-empty string or a non-empty list of blocks")
    if isinstance(value, list):
        _blocks(path, value)


def _blocks(path: str, value: list[object]) -> None:
    for index, item in enumerate(value):
        where = f"{path}.{index}"
        kind, block = _typed(where, item)
        for name, rule in BLOCKS.get(kind, {}).items():
            rule(f"{where}.{name}", block.get(name, MISSING))


def _system(path: str, value: object) -> None:
    if isinstance(value, str):
        return
    if not isinstance(value, list):
        raise refused(path, value, "a string or a list of text blocks")
    for index, item in enumerate(value):
        kind, block = _typed(f"{path}.{index}", item)
        if kind != "text":
            raise refused(f"{path}.{index}.type", kind, "text")
        _text(f"{path}.{index}.text", block.get("text", MISSING))


def _tool_result(path: str, value: object) -> None:
    if value is MISSING or isinstance(value, str):
        return
    if not isinstance(value, list):
        raise refused(path, value, "a string or a list of blocks")
    _blocks(path, value)


def _document(path: str, value: object) -> None:
    kind, source = _typed(path, value)
    if kind == "content" and isinstance(source.get("content"), list):
        _blocks(f"{path}.content", source["content"])  # type: ignore[arg-type]
    _source(path, value, "document")


def _image(path: str, value: object) -> None:
    _source(path, value, "image")
    source = _object(path, value)
    if source["type"] == "base64" and source["media_type"] not in IMAGE_TYPES:
        raise refused(f"{path}.media_type", source["media_type"], ", ".join(IMAGE_TYPES))


def _source(path: str, value: object, block: str) -> None:
    kind, source = _typed(path, value)
    for name in SOURCES.get(kind, ()):
        if name == "data" and isinstance(source.get(name), dict):
            require_reference(f"{path}.data", source, block)
            return
        _text(f"{path}.{name}", source.get(name, MISSING))
    if kind == "base64" and str(source["data"]).startswith("data:"):
        fix = "cut off the prefix up to and including the comma"
        raise refused(f"{path}.data", source["data"], "base64 alone, not a data: URL", fix=fix)


SOURCES: Final[dict[str, tuple[str, ...]]] = {
    "base64": ("media_type", "data"),
    "text": ("media_type", "data"),
    "url": ("url",),
}
"""Source type -> its required string fields. Other types (file, content, newer ones) pass."""

BLOCKS: Final[dict[str, dict[str, Rule]]] = {
    "text": {"text": _text},
    "image": {"source": _image},
    "document": {"source": _document},
    "tool_use": {"id": _text, "name": _text, "input": _an_object},
    "tool_result": {"tool_use_id": _text, "content": _tool_result},
}
"""Block type -> field -> rule. Other types (thinking, newer ones) pass."""

FIELDS: Final[dict[str, Rule]] = {
    "model": _text,
    "messages": _messages,
    "max_tokens": _at_least(1),
    "system": _system,
    "stream": _boolean,
    "temperature": _share,
    "top_p": _share,
    "top_k": _at_least(0),
    "stop_sequences": _strings,
    "tools": _tools,
    "tool_choice": _a_typed_object,
    "metadata": _an_object,
    "thinking": _a_typed_object,
}
"""Request field -> rule."""

KNOWN: Final = FIELDS.keys() | {
    *("anthropic_beta", "anthropic_version", "cache_control", "container", "context_management"),
    *("inference_geo", "mcp_servers", "output_config", "output_format", "service_tier", "speed"),
    *("billing_policy", "user_profile_id"),
}
"""Every request field that is known, with a rule or without."""


SDK_ARGUMENTS: Final = ("betas", "extra_headers", "extra_body")
"""What programs pass to an SDK beside the request, and write into it by mistake."""
BESIDE_FIX: Final = "put anthropic_beta beside `params`, or use --beta"


def unknown_field(name: str, ways_out: str = "") -> str:
    """Return what is wrong with a field that is not in KNOWN, and the field that may be meant."""
    if name in SDK_ARGUMENTS:
        return f"an argument of an SDK, not a field of a request; {BESIDE_FIX}"
    meant = closest(name, KNOWN)
    parts = ["not a field of the Messages API", *([f"did you mean {meant}?"] if meant else [])]
    text = "; ".join(parts)
    return text + (" " if meant else "; ") + ways_out if ways_out else text
