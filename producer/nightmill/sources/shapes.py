"""Rows -> requests, without a template.

A row has one of three shapes:

- `{"custom_id", "params": {...}}`, the shape of Message Batches;
- `{"custom_id", "messages": [...], ...}`, the request itself;
- `{"custom_id", "prompt": "...", ...}`: the prompt becomes one user message, the other columns are
  request fields, and a null column is left out (tables are full of nulls).

`custom_id` is optional. In a table an empty cell is null, and an id may be a number. A CSV has only
text, so a table's cell of a request field is read as JSON when it is valid JSON.
"""

from __future__ import annotations

from collections.abc import Collection
from types import NoneType
from typing import Final

import msgspec

from nightmill.errors import InvalidParamsError
from nightmill.params import FIELDS, dotted, refused
from nightmill.sources.jsonl import SHAPE
from nightmill.sources.line import Row, custom_id_of

REQUESTS: Final = frozenset({"params", "messages", "prompt"})
"""A row without one of these columns holds no request."""

_ROW_FIELDS: Final = FIELDS.keys() - {"messages"}
_NAMELESS: Final = (str, bytes, bool, list, dict, NoneType)
_READ: Final = (FIELDS.keys() | {"params"}) - {"model", "system"}
"""Columns of a table whose text is read as JSON."""


def plain(row: Row) -> tuple[str, dict[str, object]]:
    """Return the id and the request of a row in one of the three shapes.

    Raises InvalidParamsError.
    """
    columns = _read(row.columns) if row.table else row.columns
    given = columns.get("custom_id")
    custom_id = custom_id_of(as_text(given) if row.table else given, row.number)
    return custom_id, _request(columns)


def as_text(value: object) -> object:
    """Return an id as text: a number, a UUID or a date. Other types stay as they are."""
    return value if isinstance(value, _NAMELESS) else str(value)


def _request(columns: dict[str, object]) -> dict[str, object]:
    """Return the request of a row in any of the three shapes."""
    fields = {name: value for name, value in columns.items() if name != "custom_id"}
    if "params" in fields:
        params = fields.pop("params")
        _refuse_others(fields, "move it into params")
        if not isinstance(params, dict):
            raise refused("params", params, "an object, the request")
        return params
    if "prompt" in fields:
        return _from_prompt(fields)
    if "messages" in fields:
        return fields
    raise InvalidParamsError("", f"no request in this line; allowed: {SHAPE}")


def _from_prompt(columns: dict[str, object]) -> dict[str, object]:
    prompt = columns.pop("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise refused("prompt", prompt, "a non-empty string")
    fields = {name: value for name, value in columns.items() if value is not None}
    _refuse_others(
        fields.keys() - _ROW_FIELDS,
        "put other request fields under params, and other columns into a template: --prompt "
        "'{{ prompt }}'",
    )
    return {**fields, "messages": [{"role": "user", "content": prompt}]}


def _refuse_others(names: Collection[str], fix: str) -> None:
    if names:
        raise InvalidParamsError(dotted((min(names),)), f"unknown field in this line; {fix}")


def _read(columns: dict[str, object]) -> dict[str, object]:
    """Return the columns of a table's row as request fields, without empty cells."""
    return {
        name: _cell(value) if name in _READ else value
        for name, value in columns.items()
        if value is not None and value != ""
    }


def _cell(value: object) -> object:
    if isinstance(value, str):
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError:
            return value
    return value
