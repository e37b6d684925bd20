"""A template makes a job of any row: what the columns are called no longer matters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.errors import InvalidParamsError
from nightmill.params import FIELDS, dotted, refused
from nightmill.sources.attaching import Kind, block
from nightmill.sources.line import Row, custom_id_of
from nightmill.sources.shapes import REQUESTS, as_text, plain

if TYPE_CHECKING:
    from nightmill.sources.rendering import Text

ROW: Final = "row"
"""In a template, the whole row: for columns whose names are no words, `{{ row["my text"] }}`."""


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a row: Jinja texts over its columns, and the columns that are something else.

    `prompt` and `system` are Jinja (sandboxed, nothing escaped, an unknown column is an error).
    `id` is the column with the custom_id, by default `custom_id` if there is one, else
    `line-<n>`. `images` and `documents` are columns with a path or a URL: the job carries it by
    reference, before its text. `set` are request fields of every job; None takes a field out.

    With a prompt, images or documents the other columns are only material for them; without, a row
    must be a request itself, as without any template. `folder` is what relative paths in columns
    belong to, the working directory by default. Raises InvalidParamsError that names the field.
    """

    prompt: str | None = None
    system: str | None = None
    id: str | None = None
    images: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()
    set: dict[str, object] = {}
    folder: str = ""

    def __post_init__(self) -> None:
        """Compile the texts, so that a fault in one is known before a row is read."""
        for name in ("custom_id", "params"):
            if name in self.set:
                fix = "take the id from a column" if name == "custom_id" else "name its fields"
                raise InvalidParamsError("set", f"{name} is no field of a request; {fix}")
        for name in ("prompt", "system"):
            if getattr(self, name) == "":
                raise InvalidParamsError(name, "is empty; for example: Summarise: {{ text }}")
            self._text(name)

    def job(self, row: Row) -> tuple[str, dict[str, object]]:
        """Return the custom_id and the request of `row`. Raises InvalidParamsError."""
        if self.plain:
            named, params = plain(row if self.id is None else _without(row, self.id))
            custom_id = named if self.id is None else self._custom_id(row)
        else:
            custom_id, params = self._custom_id(row), self._message(row)
        system = self._text("system")
        if system is not None and (told := system.render(row.columns)):
            params = {"system": told, **{k: v for k, v in params.items() if k != "system"}}
        if self.set:
            params = {k: v for k, v in {**params, **self.set}.items() if k not in self._taken_out}
        return custom_id, params

    def columns(self) -> frozenset[str] | None:
        """Return the columns it looks at; None when these may be any."""
        if self.plain:
            return None
        texts = [text for text in (self._text("prompt"), self._text("system")) if text]
        names = {self.id or "custom_id", *self.images, *self.documents}
        if self.prompt is None:
            names.add("prompt")
        names |= {name for text in texts for name in text.names}
        return None if ROW in names else frozenset(names)

    @property
    def plain(self) -> bool:
        """Whether rows must be requests themselves: no message is made of their columns."""
        return self.prompt is None and not self.images and not self.documents

    @property
    def needed(self) -> tuple[str, ...]:
        """The columns that every row must have."""
        return (*([self.id] if self.id else []), *self.images, *self.documents)

    @property
    def _taken_out(self) -> frozenset[str]:
        return frozenset(name for name, value in self.set.items() if value is None)

    def _text(self, field: str) -> Text | None:
        source = getattr(self, field)
        if source is None:
            return None
        from nightmill.sources.rendering import compiled  # noqa: PLC0415 - jinja2 is an extra

        return compiled(field, source)

    def _custom_id(self, row: Row) -> str:
        if self.id is None:
            value = row.columns.get("custom_id")
            return custom_id_of(as_text(None if value == "" else value), row.number)
        value = _column(row, self.id)
        if value is None or value == "":
            raise InvalidParamsError("custom_id", f'column "{self.id}" is empty in this row')
        return custom_id_of(as_text(value), row.number)

    def _message(self, row: Row) -> dict[str, object]:
        """Return the request: one user message, attachments first."""
        text = self._prompt(row)
        columns: list[tuple[Kind, str]] = [("document", name) for name in self.documents]
        columns += [("image", name) for name in self.images]
        if not columns:
            return {"messages": [{"role": "user", "content": text}]}
        content: list[object] = [
            block(kind, name, _column(row, name), self.folder) for kind, name in columns
        ]
        if text is not None:
            content.append({"type": "text", "text": text})
        return {"messages": [{"role": "user", "content": content}]}

    def _prompt(self, row: Row) -> str | None:
        """Return what is asked; without a prompt template, what a column `prompt` has."""
        template = self._text("prompt")
        if template is None:
            value = row.columns.get("prompt")
            if value is None or value == "":
                return None
            if not isinstance(value, str):
                raise refused("prompt", value, "a non-empty string")
            return value
        text = template.render(row.columns)
        if not text.strip():
            raise refused("prompt", text, "a prompt that is not blank once it is filled in")
        return text


def _without(row: Row, column: str) -> Row:
    """Leave the row's own id out, and the column that has it instead: that is no field."""
    left = {"custom_id", column} - FIELDS.keys() - REQUESTS
    columns = {name: value for name, value in row.columns.items() if name not in left}
    return msgspec.structs.replace(row, columns=columns)


def _column(row: Row, name: str) -> object:
    try:
        return row.columns[name]
    except KeyError:
        raise InvalidParamsError(dotted((name,)), no_column(row.columns)) from None


def no_column(columns: Mapping[str, object]) -> str:
    """Say that a row lacks a column, and which it has."""
    return f"no such column in this row; there are: {', '.join(columns) or 'none'}"
