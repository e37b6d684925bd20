"""Content blocks of a request: their required fields and their input tokens."""

from typing import Annotated

import msgspec

BYTES_PER_TOKEN = 4
# Input tokens of an image of the usual largest size; a document counts as much.
FLAT_TOKENS = 1500
NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]
Fields = dict[str, object]


class _Base64Source(msgspec.Struct, frozen=True, tag_field="type", tag="base64"):
    media_type: NonEmpty
    data: NonEmpty


class _UrlSource(msgspec.Struct, frozen=True, tag_field="type", tag="url"):
    url: NonEmpty


class _FileSource(msgspec.Struct, frozen=True, tag_field="type", tag="file"):
    file_id: NonEmpty


class _TextSource(msgspec.Struct, frozen=True, tag_field="type", tag="text"):
    data: NonEmpty


class _ContentSource(msgspec.Struct, frozen=True, tag_field="type", tag="content"):
    content: str | list[Fields]


class _Text(msgspec.Struct, frozen=True):
    text: NonEmpty


class _Image(msgspec.Struct, frozen=True):
    source: _Base64Source | _UrlSource | _FileSource


class _Document(msgspec.Struct, frozen=True):
    source: _Base64Source | _UrlSource | _FileSource | _TextSource | _ContentSource


class _ToolUse(msgspec.Struct, frozen=True):
    id: NonEmpty
    name: NonEmpty
    input: Fields


class _ToolResult(msgspec.Struct, frozen=True):
    tool_use_id: NonEmpty
    content: str | list[Fields] | None = None


class _AnyBlock(msgspec.Struct, frozen=True):
    type: NonEmpty


_SHAPES: dict[object, type[msgspec.Struct]] = {
    "text": _Text,
    "image": _Image,
    "document": _Document,
    "tool_use": _ToolUse,
    "tool_result": _ToolResult,
}
IMAGE_TYPES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})


def check_content(block: Fields) -> None:
    """Check the fields of one block; an unknown block type needs only a `type`.

    Raises `msgspec.ValidationError` with a path inside the block.
    """
    shape = _SHAPES.get(block.get("type"), _AnyBlock)
    checked = msgspec.convert(block, shape)
    if not isinstance(checked, _Image) or not isinstance(checked.source, _Base64Source):
        return
    if checked.source.media_type not in IMAGE_TYPES:
        raise msgspec.ValidationError(
            "Input should be 'image/jpeg', 'image/png', 'image/gif' or 'image/webp'"
            " - at `$.source.media_type`"
        )


def content_tokens(content: str | list[Fields]) -> int:
    """Count the input tokens of a message's or a system prompt's content."""
    if isinstance(content, str):
        return _text_tokens(content)
    return sum(_block_tokens(block) for block in content)


def _block_tokens(block: Fields) -> int:
    match block:
        case {"type": "text", "text": str(text)}:
            return _text_tokens(text)
        case {"type": "document", "source": {"type": "text", "data": str(text)}}:
            return _text_tokens(text)
        case {"type": "image" | "document"}:
            return FLAT_TOKENS
        case {"type": "tool_result", "content": str() | list() as inner}:
            return content_tokens(inner)
        case _:
            return len(msgspec.json.encode(block)) // BYTES_PER_TOKEN


def _text_tokens(text: str) -> int:
    size = len(text) if text.isascii() else len(text.encode())
    return -(-size // BYTES_PER_TOKEN)
