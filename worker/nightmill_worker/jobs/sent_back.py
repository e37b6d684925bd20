"""The content of an answer as an endpoint takes it back: in an assistant's turn of a next request.

Endpoints refuse some of what they send: texts without a word, and white space at the end of the
last turn. Such a refusal would lose the answers of the chain that are paid. Never raises.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

_encode = msgspec.json.Encoder().encode


class _Block(msgspec.Struct):
    type: str
    text: str = ""
    id: str | None = None


_block: Final[Callable[[bytes], _Block]] = msgspec.json.Decoder(_Block).decode
_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def sent_back(content: Sequence[msgspec.Raw], *, last: bool = False) -> list[msgspec.Raw]:
    """Return the blocks that an endpoint takes; `last` for the last turn of a request."""
    kept = [(raw, block) for raw in content if (block := _read(raw)) and _is_taken(block)]
    blocks = [raw for raw, _ in kept]
    end = kept[-1][1] if kept else None
    if last and end and end.type == "text" and end.text[-1].isspace():
        text = msgspec.Raw(_encode(end.text.rstrip()))
        blocks[-1] = msgspec.Raw(_encode({**_fields(blocks[-1]), "text": text}))
    return blocks


def tool_calls(content: Sequence[msgspec.Raw]) -> list[str]:
    """Return the ids of the calls of tools, which a next turn must answer."""
    found = map(_read, content)
    return [each.id for each in found if each and each.type == "tool_use" and each.id]


def _read(raw: msgspec.Raw) -> _Block | None:
    """Return a block; None for what is none."""
    try:
        return _block(bytes(raw))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def _is_taken(block: _Block) -> bool:
    if block.type == "text":
        return bool(block.text.strip())
    return block.type != "tool_use" or bool(block.id)
