"""Rows -> requests, without a template.

A row has one of three shapes:

- `{"custom_id", "params": {...}}`, the shape of Message Batches;
- `{"custom_id", "messages": [...], ...}`, the request itself;
- `{"custom_id", "prompt": "...", ...}`: the prompt becomes one user message, and the other columns
  are request fields.

`custom_id` is optional, and so are `anthropic_version` and `anthropic_beta`, which become headers
of the job's calls. A null column is left out. In a table an empty cell is null, a null inside
a nested value is left out as well, and an id may be a number. A CSV has only text, so a table's
cell of a request field is read as JSON when it is valid JSON.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import NoneType
from typing import Final

import msgspec

from nightmill.errors import InvalidParamsError
from nightmill.params import BESIDE, KNOWN, closest, dotted, refused
from nightmill.sources.jsonl import SHAPE
from nightmill.sources.line import Row, custom_id_of
from nightmill.sources.missing import is_empty, is_missing

REQUESTS: Final = frozenset({"params", "messages", "prompt"})
"""A row without one of these columns holds no request."""

_NOT_REQUEST: Final = BESIDE | {"custom_id"}
_BESIDE_PROMPT: Final = KNOWN - {"messages"}
_MAY_BE_EMPTY: Final = frozenset({"input", "properties"})
"""Objects that are needed when all of their fields are null: of a tool's call and its schema."""
_NAMELESS: Final = (str, bytes, bool, list, dict, NoneType)
_READ: Final = (KNOWN | {"params"}) - {"model", "system"}
"""Columns of a table whose text is read as JSON."""

_OTHER_SHAPES: Final = {
    frozenset({"body", "url"}): (
        "this is a line of an OpenAI batch; nightmill reads its requests, once their bodies are "
        "Messages requests, from: jq -c '{custom_id, params: .body}' IN > OUT"
    ),
    frozenset({"result", "custom_id"}): "this is a line of results, not of requests",
}
"""Keys of rows that hold requests of another program -> what they are."""


def plain(row: Row) -> tuple[str, dict[str, object]]:
    """Return the id and the request of a row in one of the three shapes.

    Raises InvalidParamsError.
    """
    columns = _read(row.columns) if row.table else _given(row)
    given = columns.get("custom_id")
    custom_id = custom_id_of(as_text(given) if row.table else given, row.number)
    if "prompt" in row.columns and not REQUESTS & columns.keys():
        raise InvalidParamsError("prompt", "is empty in this row")
    return custom_id, request_of(columns)


def named_beside(row: Row) -> Mapping[str, object]:
    """Return the columns of a row that go beside its request and have a value."""
    if BESIDE.isdisjoint(row.columns):
        return {}
    found = {name: row.columns[name] for name in BESIDE & row.columns.keys()}
    if not row.table:
        return {name: value for name, value in found.items() if not is_missing(value)}
    return {name: _cell(value) for name, value in found.items() if not is_empty(value)}


def as_text(value: object) -> object:
    """Return an id as text: a number, a UUID or a date. Other types stay as they are.

    A column of integers with a missing value is a column of floats in most programs, so 7.0 is 7.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, _NAMELESS) else str(value)


def request_of(columns: Mapping[str, object]) -> dict[str, object]:
    """Return the request of a row in any of the three shapes. Raises InvalidParamsError."""
    fields = {name: value for name, value in columns.items() if name not in _NOT_REQUEST}
    if "params" in fields:
        params = fields.pop("params")
        _refuse_others(fields, "move it into params")
        if not isinstance(params, Mapping):
            raise refused("params", params, "an object, the request")
        return dict(params)
    if "prompt" in fields:
        return _from_prompt(fields)
    if "messages" in fields:
        return fields
    for keys, problem in _OTHER_SHAPES.items():
        if keys <= columns.keys():
            raise InvalidParamsError("", problem)
    for name, value in columns.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            problem = f"no request in this object but a list of objects, {dotted((name,))}"
            fix = f"make it one object a line: jq -c '.[\"{dotted((name,))}\"][]' IN > OUT"
            raise InvalidParamsError("", f"{problem}; {fix}")
    raise InvalidParamsError("", f"no request in this line; allowed: {SHAPE}")


def _from_prompt(fields: dict[str, object]) -> dict[str, object]:
    prompt = fields.pop("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise refused("prompt", prompt, "a non-empty string")
    _refuse_others(
        fields.keys() - _BESIDE_PROMPT,
        "put other request fields under params, and other columns into a template: --prompt "
        "'{{ prompt }}'",
    )
    return {**fields, "messages": [{"role": "user", "content": prompt}]}


def _refuse_others(names: Collection[str], fix: str) -> None:
    if names:
        name = min(names)
        meant = closest(name, _BESIDE_PROMPT)
        fix = f"did you mean {meant}? {fix}" if meant and meant != name else fix
        raise InvalidParamsError(dotted((name,)), f"unknown field in this line; {fix}")


def _given(row: Row) -> dict[str, object]:
    """Return the columns that have a value. A NaN that is written in JSON is a fault to report."""
    return {
        name: value
        for name, value in row.columns.items()
        if name in REQUESTS or not (value is None if row.raw else is_missing(value))
    }


def _read(columns: dict[str, object]) -> dict[str, object]:
    """Return the columns of a table's row as request fields, without empty cells."""
    return {
        name: _cell(value) if name in _READ else value
        for name, value in columns.items()
        if not is_empty(value)
    }


def _cell(value: object) -> object:
    """Return a cell's text as JSON if it is JSON, and a nested value without its nulls."""
    if isinstance(value, str):
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError:
            return value
    return _without_nulls(value)


def _without_nulls(value: object) -> object:
    """Leave nulls out of objects: the columns of a table give every object the same keys.

    An object of nulls only is left out too: some programs write a missing one like that.
    """
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    if not isinstance(value, dict):
        return value
    pairs = ((name, _without_nulls(item)) for name, item in value.items())
    return {
        name: item
        for name, item in pairs
        if not is_missing(item) and (item != {} or not value[name] or name in _MAY_BE_EMPTY)
    }
