"""What is wrong with an output, in a few short lines that a model can act on."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from nightmill.checked.shape import levels

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import jsonschema_rs

Path: TypeAlias = "Sequence[str | int]"
LINES: Final = 5
"""Most problems that are named."""
LINE: Final = 300
"""Most characters of a line."""
SHOWN: Final = 60
"""Characters of a value that are shown."""
ALLOWED: Final = 150
"""Characters of what is allowed that are shown."""
MOST_EFFORT: Final = 5_000
"""Values times alternatives above which errors are not located: that would take over 0.1 s."""
_PHRASES: Final = {
    "type": "type {}",
    "enum": "one of {}",
    "const": "{}",
    "minimum": "{} or more",
    "maximum": "{} or less",
    "exclusiveMinimum": "more than {}",
    "exclusiveMaximum": "less than {}",
    "multipleOf": "a multiple of {}",
    "minLength": "{} characters or more",
    "maxLength": "{} characters or fewer",
    "minItems": "{} items or more",
    "maxItems": "{} items or fewer",
    "pattern": "a text that matches {}",
    "format": "a text of the format {}",
    "required": "the field {}",
    "additionalProperties": "no field {}",
    "unevaluatedProperties": "no field {}",
    "uniqueItems": "items that differ",
    "anyOf": "one of the alternatives (anyOf)",
    "oneOfNotValid": "one of the alternatives (oneOf)",
    "oneOfMultipleValid": "exactly one of the alternatives (oneOf), and several fit",
}


def of_errors(errors: Iterable[jsonschema_rs.ValidationError], below: Path = ()) -> str:
    """Return the first problems, a line each: the path, what was given, and what was expected.

    `below` is the path of the value whose errors they are.
    """
    lines: list[str] = []
    for error in islice(errors, LINES + 1):
        line = _line(error, below)
        if line not in lines:
            lines.append(line)
    if len(lines) > LINES:
        lines[LINES:] = ["... and more"]
    return "\n".join(lines)


def of_value(value: object, expected: str, path: Path = ()) -> str:
    """Return one line about an output, or about a part of it."""
    at = _cut(path_of(path), ALLOWED // 2)
    return f"{at}: given {shown(value)}, expected {expected}"[:LINE]


def path_of(parts: Sequence[str | int]) -> str:
    """Return a path such as $.items[3].price."""
    return "$" + "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in parts)


def shown(value: object, most: int = SHOWN) -> str:
    """Return `value` as short JSON."""
    return _cut(json.dumps(_pruned(value), ensure_ascii=False), most)


def effort(value: object, branches: int) -> int:
    """Return how much work it is to locate errors: values, times alternatives for each level."""
    work, factor = 0, 1
    for level in levels(value):
        work += len(level) * factor
        factor *= branches
        if work > MOST_EFFORT:
            break
    return work


def _line(error: jsonschema_rs.ValidationError, below: Path) -> str:
    keyword, facts = error.kind.name, _facts(error)
    allowed = ", ".join(shown(each, ALLOWED) for each in facts)
    phrase = _PHRASES.get(keyword)
    expected = phrase.format(_cut(allowed, ALLOWED)) if phrase else _cut(error.message, ALLOWED)
    given = shown(error.instance)
    if keyword == "required":
        given = f"an object without {allowed}"
    path = _cut(path_of([*below, *error.instance_path]), ALLOWED // 2)
    return f"{path}: given {given}, expected {expected}"[:LINE]


def _facts(error: jsonschema_rs.ValidationError) -> list[Any]:
    """Return the values that a keyword has: its limit, its options, the fields that it names."""
    facts: list[Any] = []
    for value in error.kind.as_dict().values():
        facts += value if isinstance(value, list) else [value]
    return facts


def _pruned(value: object) -> object:
    """Return the beginning of a value, so that a large one is not written to be cut."""
    if isinstance(value, str):
        return value[: ALLOWED + 1]
    if isinstance(value, list):
        return [_leaf(each) for each in value[:SHOWN]]
    if isinstance(value, dict):
        return {name[:SHOWN]: _leaf(each) for name, each in islice(value.items(), SHOWN)}
    return value


def _leaf(value: object) -> object:
    if isinstance(value, dict | list):
        return "..." if value else value
    return value[:ALLOWED] if isinstance(value, str) else value


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."
