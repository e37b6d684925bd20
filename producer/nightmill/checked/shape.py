"""The shape of a schema's root, and where its local references lead: no validator is needed."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator

DEPTH: Final = 64
"""References that are followed from one place, at most."""
Node = dict[str, Any]
_TYPES: Final = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
    type(None): "null",
}


class Shape(NamedTuple):
    """The types that the root allows (none: any), and the fields that it requires."""

    types: frozenset[str] = frozenset()
    required: tuple[str, ...] = ()

    def fits(self, value: object) -> bool:
        """Tell whether `value` has one of the types and all the fields."""
        if self.types and _TYPES.get(type(value)) not in self.types:
            return False
        return not isinstance(value, dict) or all(name in value for name in self.required)


def root_of(text: bytes) -> Node:
    """Return the root of a schema that was checked before; {} for what is no JSON object."""
    try:
        root = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    return root if isinstance(root, dict) else {}


def resolved(node: object, root: Node) -> object:
    """Return what a local reference of `node` points to, `node` itself when it has none."""
    for _ in range(DEPTH):
        if not isinstance(node, dict) or not isinstance(pointer := node.get("$ref"), str):
            break
        node = target(pointer, root)
    return node


def target(pointer: str, root: Node) -> object:
    """Return what stands at a JSON pointer (#/...) or at an anchor; None when nothing does."""
    if pointer == "#":
        return root
    if not pointer.startswith("#/"):
        names = ("$anchor", "$dynamicAnchor")
        return next((n for n in nodes(root) if pointer[1:] in [n.get(k) for k in names]), None)
    place: object = root
    for part in pointer[2:].split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(place, list) and name.isdecimal() and int(name) < len(place):
            place = place[int(name)]
        else:
            place = place.get(name) if isinstance(place, dict) else None
    return place


def shape_of(root: Node) -> Shape:
    """Return the shape that the root of a schema asks for."""
    node = resolved(root, root)
    if not isinstance(node, dict):
        return Shape()
    given = node.get("type")
    names = _strings([given] if isinstance(given, str) else given)
    types = frozenset("number" if name == "integer" else name for name in names)
    required = _strings(node.get("required"))
    return Shape(types, required)


def nodes(value: object) -> Iterator[Node]:
    """Yield every object within a schema, also those that are no schemas (`properties`)."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case dict(node):
                yield node
                waiting += node.values()
            case list(items):
                waiting += items


def levels(value: object) -> Iterator[list[object]]:
    """Yield the values of each level of a JSON value: itself, what it holds, what those hold."""
    level = [value]
    while level:
        yield level
        below: list[object] = []
        for each in level:
            if isinstance(each, dict | list):
                below += each.values() if isinstance(each, dict) else each
        level = below


def _strings(value: object) -> tuple[str, ...]:
    return tuple(each for each in value if isinstance(each, str)) if isinstance(value, list) else ()


@lru_cache(maxsize=256)
def shape_at(text: bytes) -> Shape:
    """Return the shape of a schema that was checked before, from its JSON."""
    return shape_of(root_of(text))
