"""A request or an answer as blocks that a page can show. Pure; nothing of it becomes markup."""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec.structs import replace

from nightmill.errors import InvalidParamsError
from nightmill.params import decode
from nightmill.records.bounds import without_surrogates
from nightmill.safety.visible import visible_json
from nightmill_gateway.console.formats import printed
from nightmill_gateway.console.jobs.images import Image, image_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

TEXT: Final = 8_000
"""Characters of one text that are shown."""
TURNS: Final = 12
"""Messages of a request that are shown: the last ones."""
BLOCKS: Final = 20
"""Blocks of one message that are shown."""
SETTINGS: Final = 30
"""Parameters of a request that are shown beside its messages."""
PAGE: Final = 110_000
"""All texts of a page, bytes as they are sent: escaped, in UTF-8."""
_SHORTER: Final = 0.9
"""A text that is cut to a share of it may still be too long: how much more is cut, then."""


class Room:
    """What is left of a page for texts, however long a request or an answer is."""

    def __init__(self, left: int = PAGE) -> None:
        """Begin with `left` bytes."""
        self._left = left

    def fit(self, text: str) -> str:
        """Return a text, or its beginning when there is no room for all of it."""
        some = text
        while (size := printed(some)) > self._left:
            some = some[: int(len(some) * self._left / size * _SHORTER)]
        self._left -= size
        return some if some == text else f"{some} ... (the rest has no room on this page)"

    def turn(self, turn: Turn) -> Turn:
        """Return a message of which all parts have room."""
        return Turn(role=turn.role, blocks=tuple(map(self._block, turn.blocks)))

    def _block(self, block: Block) -> Block:
        return replace(block, text=self.fit(block.text))


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a message."""

    kind: str
    """`text`, `thinking`, `tool use`, `tool result`, `image`, or another type of block."""
    text: str
    image: Image | None = None
    """A raster image that is shown."""
    number: int = 0
    """Its place among the images of the request, from 1; it is in the image's URL."""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One message, or the system prompt."""

    role: str
    blocks: tuple[Block, ...]


def settings_of(request: object) -> list[tuple[str, str]]:
    """Return the parameters of a request but its messages."""
    if not isinstance(request, dict):
        return []
    rest = [(n, v) for n, v in request.items() if n not in {"messages", "system"}]
    return [(_cut(str(name), 80), _cut(_json(value), 400)) for name, value in rest[:SETTINGS]]


def request_of(params: bytes | msgspec.Raw) -> object:
    """Return a request as JSON; None when it cannot be read."""
    try:
        return decode(params)
    except InvalidParamsError:
        return None


def turns_of(request: object) -> tuple[list[Turn], int]:
    """Return the system prompt and the last messages of a request, and how many are left out."""
    if not isinstance(request, dict):
        return [], 0
    messages = request.get("messages")
    all_turns = messages if isinstance(messages, list) else []
    turns = (
        [Turn(role="system", blocks=_blocks(system))] if (system := request.get("system")) else []
    )
    for each in all_turns[-TURNS:]:
        message: Mapping[str, Any] = each if isinstance(each, dict) else {"content": each}
        role = _cut(str(message.get("role") or "message"), 40)
        turns.append(Turn(role=role, blocks=_blocks(message.get("content"))))
    return _numbered(turns), max(0, len(all_turns) - TURNS)


def images_of(turns: Iterable[Turn]) -> dict[str, Image]:
    """Return the images of turns by their number, as text."""
    blocks = (block for turn in turns for block in turn.blocks)
    return {str(block.number): block.image for block in blocks if block.image is not None}


def _numbered(turns: Iterable[Turn]) -> list[Turn]:
    """Return turns whose images have their numbers."""
    numbers = count(1)

    def numbered(block: Block) -> Block:
        return block if block.image is None else replace(block, number=next(numbers))

    return [replace(turn, blocks=tuple(map(numbered, turn.blocks))) for turn in turns]


def answer_of(message: Mapping[str, object]) -> Turn:
    """Return the content of an answer."""
    blocks = (replace(block, image=None) for block in _blocks(message.get("content")))
    return Turn(role="assistant", blocks=tuple(blocks))


def _blocks(content: object) -> tuple[Block, ...]:
    some = content if isinstance(content, list) else [content]
    shown = [block for each in some[:BLOCKS] for block in _block(each)]
    if len(some) > BLOCKS:
        shown.append(Block(kind="more", text=f"{len(some) - BLOCKS:,} more blocks are not shown"))
    return tuple(shown)


def _block(block: object) -> Iterator[Block]:
    match block:
        case None | "":
            return
        case str(text) | {"type": "text", "text": str(text)}:
            yield Block(kind="text", text=_cut(text, TEXT))
        case {"type": "thinking", "thinking": str(text)}:
            yield Block(kind="thinking", text=_cut(text, TEXT))
        case {"type": "tool_use" | "server_tool_use", "name": name, "input": given}:
            yield Block(kind="tool use", text=_cut(f"{name} {_json(given)}", TEXT))
        case {"type": "tool_result", "content": content}:
            inner = (
                each
                for part in (content if isinstance(content, list) else [content])
                for each in _block(part)
            )
            for each in inner:
                yield replace(each, kind=f"tool result, {each.kind}")
        case {"type": "image", "source": {"type": "base64", "data": str(data), "media_type": kind}}:
            yield _image(data, str(kind))
        case {"type": "image", "source": {"type": "url", "url": url}}:
            yield Block(kind="image", text=f"not loaded: {_cut(str(url), 400)}")
        case {"type": str(kind)}:
            yield Block(kind=_cut(kind, 40), text=_cut(_json(block), 1_000))
        case _:
            yield Block(kind="unknown", text=_cut(_json(block), 1_000))


def _image(data: str, kind: str) -> Block:
    size = f"{_cut(kind, 40)}, {len(data) * 3 // 4:,} bytes"
    found = image_of(data)
    if isinstance(found, str):
        return Block(kind="image", text=f"{size}: {found}")
    return Block(kind="image", text=size, image=found)


def _cut(text: str, most: int) -> str:
    text = _text(text)
    more = f" ... ({len(text):,} characters in all)" if len(text) > most else ""
    return text[:most] + more


def _text(text: str) -> str:
    return without_surrogates(text)


def _json(value: object) -> str:
    try:
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except (RecursionError, TypeError, ValueError):
        return "(cannot be shown)"


def pretty(raw: bytes | None, most: int) -> str:
    """Return JSON with indents, cut; what is no JSON as text.

    It is the same JSON also where the page shows characters as text: it may be edited and sent.
    """
    text = "" if raw is None else indented(raw).decode(errors="replace")
    more = f" ... ({len(text):,} characters in all)" if len(text) > most else ""
    return visible_json(text[:most]) + more  # cut first: an answer may have 10 MB


def indented(raw: bytes) -> bytes:
    """Return JSON with indents; what is no JSON as it is."""
    try:
        return msgspec.json.format(raw, indent=2)
    except (msgspec.MsgspecError, RecursionError):
        return raw
