"""The Jinja environment of templates: sandboxed, strict, and without Python's own values.

A missing value (null, NaN, NaT, a table's empty cell) is a `Missing`: it is false, `default`
replaces it, a filter of it is missing as well, and writing it is an error.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, MappingView
from datetime import date, time
from decimal import Decimal
from functools import wraps
from typing import Any, Final, NoReturn

from nightmill.errors import ExtraMissingError
from nightmill.sources.missing import is_empty, is_missing, name_of

try:
    from jinja2 import Environment, StrictUndefined, TemplateSyntaxError, Undefined, UndefinedError
    from jinja2.meta import find_undeclared_variables
    from jinja2.nodes import Name, Output
    from jinja2.sandbox import ImmutableSandboxedEnvironment
except ModuleNotFoundError:
    raise ExtraMissingError("templates need Jinja: pip install 'nightmill[sources]'") from None

__all__ = [
    "ENVIRONMENT",
    "MissingError",
    "TemplateSyntaxError",
    "UndefinedError",
    "given",
    "names_in",
    "written_in",
]

_TEXTS: Final = (str, int, Decimal, date, time, list, dict, tuple)
"""Types whose values may be written. Other types may, unless `_finalize` refuses them."""
_SEES_MISSING: Final = frozenset({"default", "d", "tojson", "length", "count"})
"""Filters that are called with a missing value."""


class MissingError(UndefinedError):
    """A missing value was to be written, or used in a way that needs a value."""


class Missing(Undefined):
    """A missing value in a column. `_of` is the value as the source has it."""

    __slots__ = ("_of",)

    def __init__(self, of: object, name: str) -> None:
        """Take the value and the name of its column, for the error."""
        word = name_of(of)
        thing = {"null": "a null", "empty": "an empty cell"}.get(word, word)
        problem = f'column "{name}" is {word} in this row'
        fix = f"to write nothing for {thing}: {{{{ {name} or '' }}}}"
        super().__init__(hint=f"{problem}; {fix}", name=name, exc=MissingError)
        self._of = of if isinstance(of, str) else None

    def fail(self, *_: object) -> NoReturn:
        """Raise MissingError."""
        raise MissingError(self._undefined_message)

    __str__ = __iter__ = fail

    def __repr__(self) -> str:
        """Show the value as it is shown inside a list."""
        return repr(self._of)

    def __len__(self) -> int:
        """Return 0 for an empty cell; a null has no length."""
        return 0 if isinstance(self._of, str) else self.fail()

    def __eq__(self, other: object) -> bool:
        """Compare with another missing value, `none` or the empty text."""
        return other == self._of if not isinstance(other, Missing) else True

    def __hash__(self) -> int:
        """Return the same for all: they are equal."""
        return hash(None)


class _Environment(ImmutableSandboxedEnvironment):
    """Takes a column before a method of the same name: `items` of `{{ row.items }}`."""

    def getattr(self, obj: Any, attribute: str) -> Any:  # noqa: ANN401 - any value of a template
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


def given(value: object, name: str, *, table: bool = False) -> object:
    """Return the value of column `name` for a template; in a `table` a blank text is missing."""
    if type(value) is str:  # most values
        return Missing(value, name) if table and is_empty(value) else value
    if isinstance(value, dict):
        return {key: given(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [given(item, name) for item in value]
    missing = is_empty(value) if table else is_missing(value)
    return Missing(value, name) if missing else value


def _finalize(value: object) -> object:
    """Return a value that may be written into a prompt; refuse Python's own objects."""
    if type(value) is str:
        return value
    if isinstance(value, Undefined):
        return str(value)  # raises
    if is_missing(value):
        return Missing(value, "value").fail()
    if isinstance(value, float) and math.isinf(value):
        raise TypeError("the value is an infinite number")
    if isinstance(value, _TEXTS):
        return value
    if isinstance(value, bytes):
        raise TypeError("the value is bytes, not text")
    kind = type(value)
    if callable(value):
        name = getattr(value, "__name__", kind.__name__)
        raise TypeError(f'"{name}" is not a column here but a function of Python')
    if (
        isinstance(value, MappingView)
        or hasattr(value, "__next__")
        or (kind.__str__, kind.__repr__) == _NO_TEXT
    ):
        raise TypeError(f"the value is a Python object ({kind.__name__}), not text")
    return value


_NO_TEXT: Final = (object.__str__, object.__repr__)


def _filter(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that gives a missing value back as it is."""
    place = int(hasattr(function, "jinja_pass_arg"))  # then the first argument is a context

    @wraps(function)
    def filtered(*args: Any, **named: Any) -> Any:  # noqa: ANN401 - any filter
        if len(args) > place and isinstance(args[place], Missing):
            return args[place]
        return function(*args, **named)

    return filtered


def _made() -> _Environment:
    environment = _Environment(undefined=StrictUndefined, autoescape=False, finalize=_finalize)
    for name, function in environment.filters.items():
        if name not in _SEES_MISSING:
            environment.filters[name] = _filter(function)
    environment.tests["none"] = lambda value: value is None or isinstance(value, Missing)
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "default": _json}
    return environment


def _json(value: object) -> object:
    if isinstance(value, Missing):
        return value._of  # noqa: SLF001 - a function of this module
    raise TypeError(f"{type(value).__name__} has no form in JSON")


ENVIRONMENT: Final = _made()
_BARE: Final = Environment(autoescape=False)  # noqa: S701 - it only finds names
_BARE.globals.clear()  # a column may be called `dict`


def written_in(source: str) -> set[str]:
    """Return the columns that a template text only writes as they are: `text` of `{{ text }}`."""
    parsed = _BARE.parse(source)
    outputs = [node for output in parsed.find_all(Output) for node in output.nodes]
    written = Counter(node.name for node in outputs if isinstance(node, Name))
    used = Counter(node.name for node in parsed.find_all(Name))
    return {name for name, times in written.items() if used[name] == times}


def names_in(source: str) -> set[str]:
    """Return the columns that a template text uses. Raises TemplateSyntaxError."""
    return find_undeclared_variables(_BARE.parse(source))
