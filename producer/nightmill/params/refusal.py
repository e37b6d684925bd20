"""Errors that name the field, the given value and the allowed values; and the limits of JSON."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterator
from typing import Final

import msgspec

from nightmill.errors import InvalidParamsError

MAX_DEPTH: Final = 100
"""Deepest nesting of objects and lists, the request itself included."""

MISSING: Final = msgspec.UNSET
"""The value of a field that is missing."""

MAX_SHOWN: Final = 60
MAX_SHOWN_KEY: Final = 40
MAX_SHOWN_KEYS: Final = 12
MAX_SHOWN_BITS: Final = 128

Path = tuple[str | int, ...]

_KINDS: Final[dict[type, str]] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "list",
    dict: "object",
    type(None): "null",
}
_LITERALS: Final[dict[object, str]] = {True: "true", False: "false", None: "null"}

_short: Final = reprlib.Repr()
_short.maxstring = _short.maxother = MAX_SHOWN - 2
_short.maxlist = _short.maxtuple = _short.maxdict = 2
_short.maxlevel = 2


def refused(
    field: str, value: object, allowed: str, *, fix: str | None = None
) -> InvalidParamsError:
    """Return the error for `value` at `field`, a dotted path; `fix` says what to do, if known."""
    problem = f"{given(value)}; allowed: {allowed}"
    return InvalidParamsError(field, f"{problem}; {fix}" if fix else problem)


def given(value: object) -> str:
    """Describe `value` in a few words: a short repr (MAX_SHOWN characters) and its JSON type."""
    if value is MISSING:
        return "missing"
    kind = _KINDS.get(type(value), type(value).__name__)
    return f"given {_shown(value)} ({kind})"


def dotted(path: Path) -> str:
    """Return a path as `messages.0.content`, printable and short whatever its keys hold."""
    keys = [_shown_key(key) for key in path[:MAX_SHOWN_KEYS]]
    return ".".join([*keys, "..."] if len(path) > MAX_SHOWN_KEYS else keys)


def require_json(value: object, path: Path = ()) -> None:
    """Refuse what JSON cannot hold: NaN, lone surrogates, other types and keys, deep nesting.

    Raises InvalidParamsError naming the field. Tuples count as lists.
    """
    if isinstance(value, str):
        _require_text(value, path)
    elif isinstance(value, float) and not math.isfinite(value):
        raise refused(dotted(path), value, "a finite number")
    elif isinstance(value, dict | list | tuple):
        if len(path) >= MAX_DEPTH:
            raise InvalidParamsError(dotted(path), f"nested deeper than {MAX_DEPTH} levels")
        for key, item in _items(value, path):
            require_json(item, (*path, key))
    elif value is not None and not isinstance(value, bool | int | float):
        raise refused(dotted(path), value, "a type that JSON has")


def _items(
    value: dict[object, object] | list[object] | tuple[object, ...], path: Path
) -> Iterator[tuple[str | int, object]]:
    if not isinstance(value, dict):
        yield from enumerate(value)
        return
    for key, item in value.items():
        if not isinstance(key, str):
            raise refused(dotted(path), key, "string keys only")
        _require_text(key, (*path, key))
        yield key, item


def _require_text(value: str, path: Path) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        problem = f"lone surrogate {value[error.start]!a} at character {error.start}"
        fix = "it is one half of a character: remove it"
        raise InvalidParamsError(dotted(path), f"{problem}; {fix}") from None


def _shown(value: object) -> str:
    if value is None or isinstance(value, bool):
        return _LITERALS[value]
    if isinstance(value, int) and value.bit_length() > MAX_SHOWN_BITS:
        return f"a number of {value.bit_length()} bits"
    shown = _short.repr(value)
    return shown if len(shown) <= MAX_SHOWN else shown[: MAX_SHOWN - 3] + "..."


def _shown_key(key: str | int) -> str:
    text = str(key)
    if text.isprintable() and 0 < len(text) <= MAX_SHOWN_KEY:
        return text
    return ascii(text[:MAX_SHOWN_KEY])
