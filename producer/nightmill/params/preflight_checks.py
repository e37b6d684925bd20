"""How the preflight recognises what is refused: one check for each kind, over decoded requests.

The contract in `rules` has passed a request before: messages are objects with a role and a content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Final, NamedTuple, cast

from nightmill.params.rules import SDK_ARGUMENTS

Request = dict[str, object]
Found = Iterator[tuple[str, object]]
"""Fields with what is refused, and their values."""
Block = dict[str, object]

_SAMPLING: Final = ("temperature", "top_p", "top_k")
_DEFAULT_TEMPERATURE: Final = 1
_DEFAULT_TOP_P: Final = 0.99
"""From here on top_p changes nothing."""
_HEADERS: Final = ("anthropic_beta", "anthropic_version", *SDK_ARGUMENTS)


class _Turn(NamedTuple):
    """One message."""

    path: str
    """Of its content."""
    role: object
    content: object

    def blocks(self, kind: str) -> Iterator[tuple[str, Block]]:
        """Yield its blocks of one type, with their paths."""
        for index, block in enumerate(self.content if isinstance(self.content, list) else ()):
            if block.get("type") == kind:
                yield f"{self.path}.{index}", block


def _turns(request: Request) -> list[_Turn]:
    messages = cast("list[dict[str, object]]", request["messages"])
    return [
        _Turn(f"messages.{index}.content", each.get("role"), each.get("content"))
        for index, each in enumerate(messages)
    ]


def _sampling(request: Request) -> Found:
    return ((name, request[name]) for name in _SAMPLING if name in request)


def _sampling_changed(request: Request) -> Found:
    defaults = {"temperature": _DEFAULT_TEMPERATURE, "top_p": _DEFAULT_TOP_P}
    for name, value in _sampling(request):
        if name not in defaults or cast("float", value) < defaults[name]:
            yield name, value


def _thinking_enabled(request: Request) -> Found:
    match request.get("thinking"):
        case {"type": "enabled"}:
            yield "thinking.type", "enabled"


def _header_in_body(request: Request) -> Found:
    return ((name, request[name]) for name in _HEADERS if name in request)


def _assistant_document(request: Request) -> Found:
    for turn in _turns(request):
        if turn.role == "assistant":
            yield from ((f"{path}.type", "document") for path, _ in turn.blocks("document"))


def _user_citations(request: Request) -> Found:
    for turn in _turns(request):
        for path, block in turn.blocks("text") if turn.role == "user" else ():
            if block.get("citations"):
                yield f"{path}.citations", block["citations"]


def _blank_text(request: Request) -> Found:
    for turn in _turns(request):
        if isinstance(turn.content, str) and turn.content.isspace():
            yield turn.path, turn.content
        for path, block in turn.blocks("text"):
            if isinstance(text := block.get("text"), str) and text.isspace():
                yield f"{path}.text", text


def _prefill(request: Request) -> Found:
    *_, last = _turns(request)
    if last.role == "assistant":
        yield last.path.replace("content", "role"), "assistant"


def _prefill_space(request: Request) -> Found:
    *_, last = _turns(request)
    if last.role != "assistant":
        return
    path, text = last.path, last.content
    if isinstance(text, list) and text and text[-1].get("type") == "text":
        path, text = f"{path}.{len(text) - 1}.text", text[-1].get("text")
    if isinstance(text, str) and text != text.rstrip():
        yield path, text


def _unanswered_tool_use(request: Request) -> Found:
    """Find a call of a tool whose result does not come next. Turns of one role count as one."""
    groups = _groups(request)
    for turns, after in zip(groups, [*groups[1:], []], strict=True):
        results = {block.get("tool_use_id") for _, block in _of(after, "user", "tool_result")}
        for path, block in _of(turns, "assistant", "tool_use"):
            if block.get("id") not in results:
                yield f"{path}.id", block.get("id")


def _unasked_tool_result(request: Request) -> Found:
    """Find a result of a tool that the turn before does not call."""
    groups = _groups(request)
    for before, turns in zip([[], *groups], groups, strict=False):
        calls = {block.get("id") for _, block in _of(before, "assistant", "tool_use")}
        for path, block in _of(turns, "user", "tool_result"):
            if block.get("tool_use_id") not in calls:
                yield f"{path}.tool_use_id", block.get("tool_use_id")


def _groups(request: Request) -> list[list[_Turn]]:
    return [list(turns) for _, turns in groupby(_turns(request), key=lambda turn: turn.role)]


def _of(turns: list[_Turn], role: str, kind: str) -> Iterator[tuple[str, Block]]:
    for turn in turns:
        if turn.role == role:
            yield from turn.blocks(kind)


CHECKS: Final[dict[str, Callable[[Request], Found]]] = {
    "sampling": _sampling,
    "sampling_changed": _sampling_changed,
    "thinking_enabled": _thinking_enabled,
    "header_in_body": _header_in_body,
    "assistant_document": _assistant_document,
    "user_citations": _user_citations,
    "blank_text": _blank_text,
    "prefill": _prefill,
    "prefill_space": _prefill_space,
    "unanswered_tool_use": _unanswered_tool_use,
    "unasked_tool_result": _unasked_tool_result,
}
"""Name in refusals.toml -> check."""
