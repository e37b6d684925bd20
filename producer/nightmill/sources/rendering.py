"""Jinja texts over the columns of a row: sandboxed; an unknown column is an error; no escaping."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NoReturn

from nightmill.errors import InvalidParamsError
from nightmill.sources.environment import (
    ENVIRONMENT,
    MissingError,
    TemplateSyntaxError,
    UndefinedError,
    given,
    names_in,
    written_in,
)
from nightmill.sources.missing import MARKS, MAX_MARK
from nightmill.sources.names import no_column

ROW: Final = "row"
_UNDEFINED: Final = re.compile(r"'(.+)' is undefined")


class Text:
    """One template text; `names` are the columns that it uses."""

    def __init__(self, field: str, source: str) -> None:
        """Compile `source`; `field` is for messages. Raises InvalidParamsError with the line."""
        self.field = field
        try:
            self.names = names_in(source)
            self._written = sorted(written_in(source))
            self._template = ENVIRONMENT.from_string(source)
        except TemplateSyntaxError as error:
            at = source.splitlines()[error.lineno - 1 : error.lineno]
            where = f"line {error.lineno} ({''.join(at).strip():.60})"
            problem = f"not a Jinja template: {where}: {error.message}"
            raise InvalidParamsError(field, problem) from None

    def __repr__(self) -> str:
        """Show the field and the columns that it uses."""
        return f"<Text {self.field} of {', '.join(sorted(self.names))}>"

    def render(self, columns: Mapping[str, object], *, table: bool = False) -> str:
        """Fill in the columns of a row, of a `table` or not. Raises InvalidParamsError."""
        used = columns if ROW in self.names else self.names
        values = {name: given(columns[name], name, table=table) for name in used if name in columns}
        try:
            return self._template.render({ROW: values, **values})
        except Exception as error:  # noqa: BLE001 - a template may raise anything
            self._refuse(error, columns)

    def warnings(self, columns: Mapping[str, object]) -> tuple[str, ...]:
        """Return a warning for each text that is written as it is and may be a missing value."""
        found: list[str] = []
        for name in self._written:
            value = columns.get(name)
            if type(value) is str and len(value) <= MAX_MARK and value in MARKS:
                what = f'the text "{value}" of column' if value else "an empty"
                found.append(f'{what} "{name}" is written into the {self.field}')
        return tuple(found)

    def _refuse(self, error: Exception, columns: Mapping[str, object]) -> NoReturn:
        problem = f"cannot be filled in: {str(error) or type(error).__name__}"
        if isinstance(error, MissingError):
            problem = str(error)
        elif isinstance(error, UndefinedError):
            name = _UNDEFINED.fullmatch(str(error))
            problem = no_column(columns, name[1]) if name else f"{error} in this row"
        raise InvalidParamsError(self.field, " ".join(problem.split())) from None


@lru_cache(maxsize=16)
def compiled(field: str, source: str) -> Text:
    """Return the compiled text; a template is the same for a million rows."""
    return Text(field, source)
