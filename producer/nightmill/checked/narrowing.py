"""Finds the part of a large output that does not fit, so that its errors can be located in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from nightmill.checked.shape import resolved
from nightmill.errors import SchemaError

if TYPE_CHECKING:
    import jsonschema_rs

    from nightmill.checked.shape import Node

LEVELS: Final = 32
"""Most levels that are gone down."""
Compile = Callable[["Node"], "jsonschema_rs.Validator"]


class Part(NamedTuple):
    """A part of an output that does not fit: its path, its value, and what checks it."""

    path: tuple[str | int, ...]
    value: object
    validator: jsonschema_rs.Validator


def narrowed(output: object, root: Node, whole: jsonschema_rs.Validator, make: Compile) -> Part:
    """Return the first and innermost part of `output` that does not fit the schema `root`.

    It goes down fields and items; alternatives and the like are not gone into.
    """
    part, node = Part((), output, whole), resolved(root, root)
    defs: Node = {name: root[name] for name in ("$defs", "definitions") if name in root}
    for _ in range(LEVELS):
        for key, child, schema in _children(node, part.value):
            try:
                validator = make({**schema, **defs})
            except SchemaError:  # it refers to another place than $defs
                return part
            found = next((each for each in child if not validator.is_valid(each[1])), None)
            if found is not None:
                at, value = found
                part = Part((*part.path, key if key is not None else at), value, validator)
                node = resolved(schema, root)
                break
        else:
            return part
    return part


def _children(
    node: object, value: object
) -> Iterator[tuple[str | None, Iterator[tuple[int, Any]], Node]]:
    """Yield the parts of `value` that have a schema: key, (place, value) pairs, schema."""
    if not isinstance(node, dict):
        return
    fields, items = node.get("properties"), node.get("items")
    if isinstance(value, dict) and isinstance(fields, dict):
        for name, schema in fields.items():
            if name in value and isinstance(schema, dict):
                yield name, iter([(0, value[name])]), schema
    elif isinstance(value, list) and isinstance(items, dict):
        yield None, enumerate(value), items
