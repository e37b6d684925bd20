"""Options that belong together are declared once, as a record that commands take."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from typing import get_type_hints

Command = Callable[..., None]


def grouped(command: Command) -> Command:
    """Return `command` as typer is to see it: a dataclass parameter becomes its fields.

    Each field is an annotated option with a default; the command gets the record.
    """
    hints = get_type_hints(command, include_extras=True)
    records: dict[str, type] = {
        name: kind for name, kind in hints.items() if isinstance(kind, type) and is_dataclass(kind)
    }
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(command).parameters.values():
        if parameter.name in records:
            parameters += _options(records[parameter.name])
        else:
            parameters.append(parameter.replace(annotation=hints[parameter.name]))

    @wraps(command)
    def seen_by_typer(**given: object) -> None:
        for name, kind in records.items():
            given[name] = kind(**{field.name: given.pop(field.name) for field in fields(kind)})
        command(**given)

    seen_by_typer.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    seen_by_typer.__annotations__ = {each.name: each.annotation for each in parameters}
    return seen_by_typer


def _options(record: type) -> list[inspect.Parameter]:
    hints = get_type_hints(record, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=hints[field.name],
        )
        for field in fields(record)
    ]
