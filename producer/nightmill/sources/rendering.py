"""Jinja texts over the columns of a row: sandboxed; an unknown column is an error; no escaping."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NoReturn

from nightmill.errors import ExtraMissingError, InvalidParamsError

try:
    import jinja2
    from jinja2 import meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment
except ModuleNotFoundError:
    raise ExtraMissingError("templates need Jinja: pip install 'nightmill[sources]'") from None

ROW: Final = "row"
_UNDEFINED: Final = re.compile(r"'(.+)' is undefined")
NULL: Final = "is null in this row; to write nothing for a null: {{ name or '' }}"


class _NullError(Exception):
    """A value to be written is null. It is refused: a prompt must not contain "None"."""


def _finalize(value: object) -> object:
    if value is None:
        raise _NullError
    if isinstance(value, bytes):
        raise TypeError("the value is bytes, not text")
    return value


_ENV: Final = ImmutableSandboxedEnvironment(
    undefined=jinja2.StrictUndefined,
    autoescape=False,
    finalize=_finalize,
)
_BARE: Final = jinja2.Environment(autoescape=False)  # noqa: S701 - it only finds names
_BARE.globals.clear()  # a column may be called `dict`


class Text:
    """One template text; `names` are the columns that it uses."""

    def __init__(self, field: str, source: str) -> None:
        """Compile `source`; `field` is for messages. Raises InvalidParamsError with the line."""
        self.field = field
        try:
            self.names = meta.find_undeclared_variables(_BARE.parse(source))
            self._template = _ENV.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            at = source.splitlines()[error.lineno - 1 : error.lineno]
            where = f"line {error.lineno} ({''.join(at).strip():.60})"
            problem = f"not a Jinja template: {where}: {error.message}"
            raise InvalidParamsError(field, problem) from None

    def __repr__(self) -> str:
        """Show the field and the columns that it uses."""
        return f"<Text {self.field} of {', '.join(sorted(self.names))}>"

    def render(self, columns: Mapping[str, object]) -> str:
        """Fill in the columns of a row. Raises InvalidParamsError."""
        try:
            return self._template.render({ROW: columns, **columns})
        except Exception as error:  # noqa: BLE001 - a template may raise anything
            self._refuse(error, columns)

    def _refuse(self, error: Exception, columns: Mapping[str, object]) -> NoReturn:
        if isinstance(error, _NullError):
            nulls = [name for name in sorted(self.names) if columns.get(name, "") is None]
            what = f'column "{nulls[0]}"' if nulls else "a value"
            problem = f"{what} {NULL.replace('name', nulls[0] if nulls else 'value')}"
        elif isinstance(error, jinja2.UndefinedError):
            name = _UNDEFINED.fullmatch(str(error))
            known = f'no column "{name[1]}"' if name else str(error)
            there = f"; there are: {', '.join(map(str, columns)) or 'none'}" if name else ""
            problem = f"{known} in this row{there}"
        else:
            problem = f"cannot be filled in: {str(error) or type(error).__name__}"
        raise InvalidParamsError(self.field, " ".join(problem.split())) from None


@lru_cache(maxsize=16)
def compiled(field: str, source: str) -> Text:
    """Return the compiled text; a template is the same for a million rows."""
    return Text(field, source)
