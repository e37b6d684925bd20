"""A JSON Schema (2020-12), compiled once: within limits, and no reference is fetched."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.checked import problems
from nightmill.checked.narrowing import Part, narrowed
from nightmill.checked.shape import Node, levels, nodes, shape_of, target
from nightmill.errors import ExtraMissingError, SchemaError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import jsonschema_rs

MAX_BYTES: Final = 256 << 10
"""Largest schema as JSON, bytes."""
MAX_DEPTH: Final = 64
"""Deepest nesting of a schema."""
MAX_UNFOLDED: Final = 2_000
"""Most schemas that apply to one place of an output, once references are followed."""
MAX_TO_ANCHORS: Final = 100
"""Most references to an anchor."""
PATTERN_BYTES: Final = 1 << 20
"""Largest compiled pattern, bytes. Patterns are matched in linear time."""
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFERENCES: Final = ("$ref", "$dynamicRef")
_ONE: Final = ("not", "if", "then", "else")
_LISTS: Final = ("allOf", "anyOf", "oneOf")
_ALTERNATIVES: Final = ("anyOf", "oneOf")
_decode = msgspec.json.Decoder().decode


class Schema:
    """A compiled schema; `root` is the schema as a dict."""

    def __init__(self, root: Node, validator: jsonschema_rs.Validator) -> None:
        """Take what `compiled` has checked."""
        self.root = root
        self.shape = shape_of(root)
        self._validator = validator
        self._branches = max(map(_branches, nodes(root)), default=1)

    def problem_of(self, output: object) -> str | None:
        """Return what is wrong with `output`, a few short lines; None when it fits the schema."""
        try:
            if self._validator.is_valid(output):
                return None
        except ValueError as error:  # a number or a nesting that it does not take
            return problems.of_value(output, str(error))
        part = Part((), output, self._validator)
        if problems.effort(output, self._branches) > problems.MOST_EFFORT:
            part = narrowed(output, self.root, self._validator, _validator)
            if problems.effort(part.value, self._branches) > problems.MOST_EFFORT:
                expected = "a value that fits the JSON Schema"
                return problems.of_value(part.value, expected, part.path)
        return problems.of_errors(part.validator.iter_errors(part.value), part.path)


@lru_cache(maxsize=256)
def compiled(text: bytes) -> Schema:
    """Return the compiled schema of a JSON text.

    Raises SchemaError that names the place, what was given, and what is allowed; ExtraMissingError
    where the validator is not installed.
    """
    if len(text) > MAX_BYTES:
        raise SchemaError(f"given {len(text):,} bytes; allowed: {MAX_BYTES:,}; make it smaller")
    try:
        root = _decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SchemaError(f"not JSON: {error}; give a JSON Schema") from None
    if not isinstance(root, dict):
        raise SchemaError(f"given {problems.shown(root)}; allowed: a JSON object")
    _require_bounded(root)
    for node in nodes(root):
        _require_local(node)
    if sum(map(_to_anchor, nodes(root))) > MAX_TO_ANCHORS:
        raise SchemaError(f"more than {MAX_TO_ANCHORS} references to anchors; use #/$defs/NAME")
    try:
        _require_unfolded(root)
        return Schema(root, _validator(root))
    except RecursionError:
        raise SchemaError("references follow each other too far; use fewer") from None


def _validator(root: Node) -> jsonschema_rs.Validator:
    try:
        import jsonschema_rs as library  # noqa: PLC0415 - optional extra
    except ModuleNotFoundError:
        raise ExtraMissingError("a schema needs: pip install 'nightmill[checked]'") from None
    patterns = library.RegexOptions(size_limit=PATTERN_BYTES, dfa_size_limit=PATTERN_BYTES)
    try:
        return library.Draft202012Validator(
            root, offline=True, validate_formats=True, pattern_options=patterns
        )
    except (library.ValidationError, library.ReferencingError) as error:
        where = problems.path_of(getattr(error, "instance_path", ()))
        text = str(getattr(error, "message", error)).splitlines()[0]
        fix = "correct it as JSON Schema 2020-12 says"
        if text.endswith('is not a "regex"'):
            fix = "allowed are patterns without look-around and back-references, of 1 MB compiled"
        raise SchemaError(f"{where}: {text[: problems.LINE]}; {fix}") from None
    except ValueError as error:
        raise SchemaError(f"{error}; make it simpler") from None


def _branches(node: Node) -> int:
    """Return how many alternatives a schema has."""
    lists = (node.get(name) for name in _ALTERNATIVES)
    return sum(len(each) for each in lists if isinstance(each, list)) or 1


def _require_bounded(root: Node) -> None:
    if any(depth == MAX_DEPTH for depth, _ in enumerate(levels(root))):
        raise SchemaError(f"nested deeper than {MAX_DEPTH} levels; use $defs and $ref")


def _require_local(node: Node) -> None:
    """Raise SchemaError for another dialect, and for a reference that leaves the schema."""
    dialect = node.get("$schema", DIALECT)
    if isinstance(dialect, str) and dialect.rstrip("#") != DIALECT:
        given = problems.shown(dialect)
        raise SchemaError(f"$schema: given {given}; allowed: {DIALECT}; change it, or leave it out")
    for name in _REFERENCES:
        to = node.get(name, "#")
        if isinstance(to, str) and not to.startswith("#"):
            raise SchemaError(
                f"{name}: given {problems.shown(to)}; allowed: a place in the same schema, "
                "#/$defs/NAME; put the other schema under $defs"
            )


def _to_anchor(node: Node) -> bool:
    """Tell whether a schema refers to an anchor: the whole schema is searched for it."""
    pointers = (node.get(name) for name in _REFERENCES)
    return any(isinstance(each, str) and each != "#" and each[:2] != "#/" for each in pointers)


def _require_unfolded(root: Node) -> None:
    """Raise SchemaError when too many schemas apply to one place: checking would take too long."""
    sizes: dict[int, int] = {}

    def size(node: object) -> int:
        if not isinstance(node, dict):
            return 1
        if id(node) not in sizes:
            sizes[id(node)] = 1  # a reference back to itself is followed once
            sizes[id(node)] = 1 + sum(map(size, _in_place(node, root)))
        return min(sizes[id(node)], MAX_UNFOLDED + 1)

    if any(size(node) > MAX_UNFOLDED for node in nodes(root)):
        raise SchemaError(
            f"more than {MAX_UNFOLDED:,} alternatives for one place; leave out repeated references"
        )


def _in_place(node: Node, root: Node) -> Iterator[object]:
    """Yield the schemas that apply to the same place of an output as `node`."""
    for name in _REFERENCES:
        if isinstance(pointer := node.get(name), str):
            yield target(pointer, root)
    yield from (node[name] for name in _ONE if name in node)
    for name in _LISTS:
        yield from node[name] if isinstance(node.get(name), list) else ()
    dependent = node.get("dependentSchemas")
    yield from dependent.values() if isinstance(dependent, dict) else ()
