"""Attachments by reference: `{"$file": "path or URL"}` in place of a source's data. No I/O.

A worker puts the file's data there when it makes the call, so Redis never holds images or PDFs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from nightmill.params.refusal import MISSING, Path, dotted, refused

Object = dict[str, object]

FILE: Final = "$file"
MARK: Final = b'"$file"'
"""Part of the compact JSON of every request that refers to a file."""

IMAGE_TYPES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
DOCUMENT_TYPES: Final = ("application/pdf", "text/plain")
_SOURCES: Final = ("base64", "text")
_ALLOWED: Final = 'a non-empty string, or {"$file": "a path or URL"}'


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """One file that a request refers to."""

    path: str
    """Dotted path of the `data` that the file replaces."""
    file: str
    """Path or URL of the file."""
    media_type: str
    encoded: bool
    """Whether the data is base64; False for plain text."""
    source: Object
    """The object whose `data` the file replaces."""


def require_reference(path: str, source: Object, block: str) -> None:
    """Refuse a reference that is malformed, or whose media type its block does not allow."""
    data = source["data"]
    if not isinstance(data, dict) or list(data) != [FILE]:
        raise refused(path, data, _ALLOWED)
    if not isinstance(data[FILE], str) or not data[FILE] or "\0" in data[FILE]:
        raise refused(f"{path}.{FILE}", data[FILE], "a path, or a URL")
    types = IMAGE_TYPES if block == "image" else DOCUMENT_TYPES
    if source.get("media_type", MISSING) not in types:
        where = f"{path.removesuffix('.data')}.media_type"
        raise refused(where, source.get("media_type", MISSING), ", ".join(types))


def require_placed(request: Object) -> None:
    """Refuse `$file` in places that workers do not fill: it would be sent, and paid, as it is."""
    known = {id(found.source["data"]) for found in references(request)}
    for path, item in _objects(request, ()):
        if FILE in item and id(item) not in known:
            allowed = "only as the data of an image's or a document's source, in messages"
            raise refused(dotted((*path, FILE)), item[FILE], allowed)


def references(request: Object) -> Iterator[Reference]:
    """Yield the files that a valid request refers to, in its order."""
    messages = request["messages"]
    for number, message in enumerate(messages if isinstance(messages, list) else ()):
        yield from _in_blocks(message["content"], ("messages", number, "content"))


def _in_blocks(content: object, path: Path) -> Iterator[Reference]:
    """Yield those of blocks, and of the blocks inside a tool's result or a document's content."""
    for number, block in enumerate(content if isinstance(content, list) else ()):
        where = (*path, number)
        match block:
            case {"type": "image" | "document", "source": {"type": "content", "content": inner}}:
                yield from _in_blocks(inner, (*where, "source", "content"))
            case {"type": "image" | "document", "source": dict(source)}:
                yield from _in_source(source, (*where, "source", "data"))
            case {"type": "tool_result", "content": inner}:
                yield from _in_blocks(inner, (*where, "content"))


def _in_source(source: Object, path: Path) -> Iterator[Reference]:
    match source:
        case {"type": "base64" | "text" as kind, "media_type": str(media), "data": {"$file": file}}:
            yield Reference(
                path=dotted(path),
                file=str(file),
                media_type=media,
                encoded=kind == "base64",
                source=source,
            )


def _objects(value: object, path: Path) -> Iterator[tuple[Path, Object]]:
    if isinstance(value, dict):
        yield path, value
        for key, item in value.items():
            yield from _objects(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _objects(item, (*path, index))
