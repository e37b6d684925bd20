"""The output of a result as columns: one for each field that the schema of its batch names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import msgspec

from nightmill.checked.shape import resolved, root_of
from nightmill.records.bounds import MAX_INT, without_surrogates

if TYPE_CHECKING:
    from nightmill.checked.shape import Node
    from nightmill.export.flat import Kind, Row
    from nightmill.records.acceptance import Acceptance
    from nightmill.records.result import Result

OUTPUT: Final = "output"
"""The field of JSON lines; the column of an output that is no object with named fields."""
_KINDS: Final[dict[str, Kind]] = {
    "string": "text",
    "integer": "int",
    "number": "float",
    "boolean": "bool",
}
_VALUES: Final[dict[type, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
}


class OutputColumns:
    """The columns of a batch's outputs; none without a schema."""

    def __init__(self, accept: Acceptance) -> None:
        """Take what the batch accepts."""
        self._fields: dict[str, Kind] = {}
        self.columns: dict[str, Kind] = {}
        if accept.schema is None:
            return
        root = root_of(bytes(accept.schema))
        node = resolved(root, root)
        fields = node.get("properties") if isinstance(node, dict) else None
        if isinstance(fields, dict) and fields:
            self._fields = {name: _kind(field, root) for name, field in fields.items()}
            self.columns = {f"{OUTPUT}.{name}": kind for name, kind in self._fields.items()}
        else:
            self.columns = {OUTPUT: _kind(root, root)}

    def row(self, result: Result) -> Row:
        """Return the output of `result` as columns; {} when it has none."""
        output = result.parsed if self.columns else None
        if output is None:
            return {}
        if not self._fields:
            return {name: _plain(output, kind) for name, kind in self.columns.items()}
        if not isinstance(output, dict):
            return {}
        return {
            f"{OUTPUT}.{name}": _plain(output[name], kind)
            for name, kind in self._fields.items()
            if name in output
        }


def _kind(node: object, root: Node) -> Kind:
    """Return the kind of column for a schema; text, for JSON, unless it is one plain type."""
    kinds = {_KINDS.get(name, "text") for name in _types(node, root, 8) - {"null"}}
    if kinds == {"int", "float"}:
        return "float"
    return kinds.pop() if len(kinds) == 1 else "text"


def _types(node: object, root: Node, depth: int) -> set[str]:
    """Return the types that a schema allows, "any" where it does not say."""
    node = resolved(node, root)
    if not isinstance(node, dict) or depth == 0:
        return {"any"}
    match node:
        case {"type": str(name)}:
            return {name}
        case {"type": [*names]}:
            return {name if isinstance(name, str) else "any" for name in names}
        case {"const": _} | {"enum": [*_]}:
            values = node.get("enum", [node.get("const")])
            return {_VALUES.get(type(value), "any") for value in values}
        case {"anyOf": [*ways]} | {"oneOf": [*ways]} | {"allOf": [_] as ways}:
            return set().union(*(_types(way, root, depth - 1) for way in ways))
    return {"any"}


def _plain(value: object, kind: Kind) -> object:
    """Return a value as its column holds it; nested ones are JSON, None what it cannot hold."""
    if kind == "text":
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        return None if value is None else without_surrogates(text)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match kind:
        case "int" if number:
            whole = int(cast("float", value))
            return whole if -MAX_INT - 1 <= whole <= MAX_INT else None
        case "float" if number:
            return float(cast("float", value))
        case "bool" if isinstance(value, bool):
            return value
    return None
