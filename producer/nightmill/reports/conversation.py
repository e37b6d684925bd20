"""A request and its answer as text that a person can read. Pure.

Long texts are cut and data such as images are named with their size: `nightmill results` has them
whole.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from nightmill.errors import InvalidParamsError
from nightmill.params import decode
from nightmill.records.bounds import without_surrogates

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import msgspec

LONGEST: Final = 4_000
"""Characters of one text that are shown."""
VALUE_CHARS: Final = 200
"""Characters of another value that are shown."""
TURNS: Final = 20
"""Messages of a request that are shown: the last ones."""
_INDENT: Final = "    "


def request_lines(params: bytes | msgspec.Raw) -> list[str]:
    """Return the request of a job, one line an item: its parameters, then each message."""
    try:
        request = decode(params)
    except InvalidParamsError:
        request = None
    if not isinstance(request, dict):
        return [_short(bytes(params).decode(errors="replace"))]
    rest = {n: v for n, v in request.items() if n not in {"messages", "system", "model"}}
    lines = [", ".join(f"{name} {_short(_json(value))}" for name, value in rest.items())]
    lines += _part("system", request.get("system"))
    messages = request.get("messages")
    turns = messages if isinstance(messages, list) else [messages]
    if len(turns) > TURNS:
        lines.append(f"{len(turns) - TURNS:,} earlier messages are not shown")
    for turn in turns[-TURNS:]:
        match turn:
            case {"role": role, "content": content}:
                lines += _part(_short(_json(role)), content)
            case _:
                lines += _part("message", turn)
    return [line for line in lines if line]


def answer_lines(message: Mapping[str, object]) -> list[str]:
    """Return the content of a Message, one line an item."""
    return _part("assistant", message.get("content")) or ["assistant: (no content)"]


def _part(name: str, content: object) -> list[str]:
    """Return a named text or list of blocks; [] when there is nothing."""
    blocks = content if isinstance(content, list) else [content]
    lines = [line for block in blocks if block not in (None, "") for line in _block(block)]
    if len(lines) == 1 and len(lines[0]) + len(name) < VALUE_CHARS:
        return [f"{name}: {lines[0]}"]
    return [f"{name}:", *(f"{_INDENT}{line}" for line in lines)] if lines else []


def _block(block: object) -> Iterator[str]:
    match block:
        case str(text) | {"type": "text", "text": str(text)}:
            yield from _lines(text)
        case {"type": "thinking", "thinking": str(text)}:
            yield from _lines(f"[thinking] {text}")
        case {"type": "tool_use" | "server_tool_use", "name": name, "input": given}:
            yield f"[calls {name}] {_short(_json(given))}"
        case {"type": "tool_result", "content": content}:
            yield from _part("[result of a tool]", content)
        case {"$file": where, **more}:
            yield f"[{more.get('type') or 'file'}: {where}]"
        case {"type": str(kind), "source": {"data": str(data), "media_type": media_type}}:
            yield f"[{kind}: {media_type}, {len(data) * 3 // 4:,} bytes]"
        case {"type": str(kind), "source": source}:
            yield f"[{kind}: {_short(_json(source))}]"
        case _:
            yield _short(_json(block))


def _lines(text: str) -> list[str]:
    text = without_surrogates(text)
    cut = f" ... ({len(text):,} characters in all)" if len(text) > LONGEST else ""
    return (text[:LONGEST] + cut).splitlines() or [""]


def _short(text: str) -> str:
    cut = f" ... ({len(text):,} characters in all)" if len(text) > VALUE_CHARS else ""
    return text[:VALUE_CHARS] + cut


def _json(value: object) -> str:
    if isinstance(value, str):
        return without_surrogates(value)
    try:
        return json.dumps(value)
    except (RecursionError, TypeError, ValueError):
        return "(cannot be shown)"
