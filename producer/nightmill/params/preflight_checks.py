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


class Turn(NamedTuple):
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


Turns = list[Turn]


def turns_of(request: Request) -> list[Turn]:
    """Return the messages of a request."""
    messages = cast("list[dict[str, object]]", request["messages"])
    return [
        Turn(f"messages.{index}.content", each.get("role"), each.get("content"))
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


def _assistant_document(turns: Turns) -> Found:
    for turn in turns:
        if turn.role == "assistant":
            yield from ((f"{path}.type", "document") for path, _ in turn.blocks("document"))


def _user_citations(turns: Turns) -> Found:
    for turn in turns:
        for path, block in turn.blocks("text") if turn.role == "user" else ():
            if block.get("citations"):
                yield f"{path}.citations", block["citations"]


def _blank_text(turns: Turns) -> Found:
    for turn in turns:
        if isinstance(turn.content, str) and turn.content.isspace():
            yield turn.path, turn.content
        for path, block in turn.blocks("text"):
            if isinstance(text := block.get("text"), str) and text.isspace():
                yield f"{path}.text", text


def _prefill(turns: Turns) -> Found:
    last = turns[-1]
    if last.role == "assistant":
        yield last.path.replace("content", "role"), "assistant"


def _prefill_space(turns: Turns) -> Found:
    last = turns[-1]
    if last.role != "assistant":
        return
    path, text = last.path, last.content
    if isinstance(text, list) and text and text[-1].get("type") == "text":
        path, text = f"{path}.{len(text) - 1}.text", text[-1].get("text")
    if isinstance(text, str) and text != text.rstrip():
        yield path, text


def _unanswered_tool_use(turns: Turns) -> Found:
    """Find a call of a tool whose result does not come next. Turns of one role count as one."""
    groups = _groups(turns)
    for group, after in zip(groups, [*groups[1:], []], strict=False):
        results = {block.get("tool_use_id") for _, block in _of(after, "user", "tool_result")}
        for path, block in _of(group, "assistant", "tool_use"):
            if block.get("id") not in results:
                yield f"{path}.id", block.get("id")


def _unasked_tool_result(turns: Turns) -> Found:
    """Find a result of a tool that the turn before does not call."""
    groups = _groups(turns)
    for before, group in zip([[], *groups], groups, strict=False):
        calls = {block.get("id") for _, block in _of(before, "assistant", "tool_use")}
        for path, block in _of(group, "user", "tool_result"):
            if block.get("tool_use_id") not in calls:
                yield f"{path}.tool_use_id", block.get("tool_use_id")


def _groups(turns: Turns) -> list[list[Turn]]:
    """Return the turns, those of one role that follow each other together; [] without blocks."""
    if all(isinstance(turn.content, str) for turn in turns):
        return []
    return [list(each) for _, each in groupby(turns, key=lambda turn: turn.role)]


def _of(turns: list[Turn], role: str, kind: str) -> Iterator[tuple[str, Block]]:
    for turn in turns:
        if turn.role == role:
            yield from turn.blocks(kind)


_OF_FIELDS: Final[dict[str, Callable[[Request], Found]]] = {
    "sampling": _sampling,
    "sampling_changed": _sampling_changed,
    "thinking_enabled": _thinking_enabled,
    "header_in_body": _header_in_body,
}
_OF_TURNS: Final[dict[str, Callable[[Turns], Found]]] = {
    "assistant_document": _assistant_document,
    "user_citations": _user_citations,
    "blank_text": _blank_text,
    "prefill": _prefill,
    "prefill_space": _prefill_space,
    "unanswered_tool_use": _unanswered_tool_use,
    "unasked_tool_result": _unasked_tool_result,
}
CHECKS: Final = _OF_FIELDS.keys() | _OF_TURNS.keys()
"""The names of the checks, as refusals.toml has them."""


def find(check: str, request: Request, turns: Turns) -> tuple[str, object] | None:
    """Return the first field that a check finds and its value; `turns` are those of `request`."""
    of_fields = _OF_FIELDS.get(check)
    return next(of_fields(request) if of_fields else _OF_TURNS[check](turns), None)
