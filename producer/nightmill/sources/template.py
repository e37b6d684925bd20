"""A template makes a job of any row, whatever its columns are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from nightmill.errors import InvalidParamsError
from nightmill.params import BESIDE, FIELDS, dotted, refused
from nightmill.sources.attaching import Attached, attach
from nightmill.sources.line import Row, custom_id_of
from nightmill.sources.missing import is_empty
from nightmill.sources.names import no_column
from nightmill.sources.shapes import REQUESTS, as_text, plain

if TYPE_CHECKING:
    from nightmill.sources.rendering import Text

ROW: Final = "row"
"""The whole row in a template text, for column names with spaces: `{{ row["my text"] }}`."""


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """How a row becomes a job: Jinja texts over its columns, and columns with a meaning.

    With `prompt`, `images` or `documents`, other columns are used only where a text names them.
    Without all three, a row must be a request itself, as without a template.
    Raises InvalidParamsError that names the field.
    """

    prompt: str | None = None
    """Jinja text of the user message (sandboxed, no escaping; an unknown column is an error)."""
    system: str | None = None
    """Jinja text of the system prompt."""
    id: str | None = None
    """Column that holds the custom_id. None: the column `custom_id`, else `line-<number>`."""
    images: tuple[str, ...] = ()
    """Columns that hold the path or URL of an image. The job refers to it, before its text."""
    documents: tuple[str, ...] = ()
    """Columns that hold the path or URL of a document, used as `images` are."""
    set: dict[str, object] = {}
    """Request fields of every job; None removes a field."""
    folder: str = ""
    """Folder at which relative paths in columns start; "" for the working directory."""

    def __post_init__(self) -> None:
        """Compile the texts, so that a fault in one is found before a row is read."""
        for name in ("custom_id", "params"):
            if name in self.set:
                fix = "take the id from a column" if name == "custom_id" else "name its fields"
                raise InvalidParamsError("set", f"{name} is not a field of a request; {fix}")
        for name in ("prompt", "system"):
            if getattr(self, name) == "":
                raise InvalidParamsError(name, "is empty; for example: Summarise: {{ text }}")
            self._text(name)

    def job(self, row: Row) -> tuple[str, dict[str, object], tuple[str, ...]]:
        """Return the custom_id, the request and the warnings of `row`.

        Raises InvalidParamsError.
        """
        warnings: tuple[str, ...] = ()
        if self.plain:
            named, params = plain(row if self.id is None else _without(row, self.id))
            custom_id = named if self.id is None else self._custom_id(row)
        else:
            attached = self._attached(row)
            custom_id, params = self._custom_id(row), self._message(row, attached)
            warnings = tuple(each.warning for each in attached if each.warning)
        if (prompt := self._text("prompt")) is not None:
            warnings += prompt.warnings(row.columns)
        system = self._text("system")
        if system is not None and (text := system.render(row.columns, table=row.table)):
            params = {"system": text, **{k: v for k, v in params.items() if k != "system"}}
        if self.set:
            params = {k: v for k, v in {**params, **self.set}.items() if k not in self._removed}
        return custom_id, params, warnings

    def columns(self) -> frozenset[str] | None:
        """Return the columns that it uses; None when it may use any."""
        if self.plain:
            return None
        texts = [text for text in (self._text("prompt"), self._text("system")) if text]
        names = {self.id or "custom_id", *BESIDE, *self.images, *self.documents}
        if self.prompt is None:
            names.add("prompt")
        names |= {name for text in texts for name in text.names}
        return None if ROW in names else frozenset(names)

    @property
    def plain(self) -> bool:
        """Whether rows must be requests themselves: the template makes no message."""
        return self.prompt is None and not self.images and not self.documents

    @property
    def needed(self) -> tuple[str, ...]:
        """Columns that every row must have."""
        return (*([self.id] if self.id else []), *self.images, *self.documents)

    @property
    def _removed(self) -> frozenset[str]:
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
            return custom_id_of(as_text(None if is_empty(value) else value), row.number)
        value = _column(row, self.id)
        if is_empty(value):
            raise InvalidParamsError("custom_id", f'column "{self.id}" is empty in this row')
        return custom_id_of(as_text(value), row.number)

    def _attached(self, row: Row) -> list[Attached]:
        """Return the row's documents and images, in this order."""
        if not (self.documents or self.images):
            return []
        return [
            *(attach("document", name, _column(row, name), self.folder) for name in self.documents),
            *(attach("image", name, _column(row, name), self.folder) for name in self.images),
        ]

    def _message(self, row: Row, attached: list[Attached]) -> dict[str, object]:
        """Return the request: one user message, attachments first."""
        text = self._prompt(row)
        if not attached:
            return {"messages": [{"role": "user", "content": text}]}
        content: list[object] = [each.block for each in attached]
        if text is not None:
            content.append({"type": "text", "text": text})
        return {"messages": [{"role": "user", "content": content}]}

    def _prompt(self, row: Row) -> str | None:
        """Return the text of the user message; without a `prompt`, the column `prompt`."""
        template = self._text("prompt")
        if template is None:
            value = row.columns.get("prompt")
            if is_empty(value):
                return None
            if not isinstance(value, str):
                raise refused("prompt", value, "a non-empty string")
            return value
        text = template.render(row.columns, table=row.table)
        if not text.strip():
            raise refused(
                "prompt", text, "a prompt that is not blank after the columns are filled in"
            )
        return text


def _without(row: Row, column: str) -> Row:
    """Return `row` without `custom_id` and without the id's column: neither is a request field."""
    left = {"custom_id", column} - FIELDS.keys() - REQUESTS
    columns = {name: value for name, value in row.columns.items() if name not in left}
    return msgspec.structs.replace(row, columns=columns)


def _column(row: Row, name: str) -> object:
    try:
        return row.columns[name]
    except KeyError:
        raise InvalidParamsError(dotted((name,)), no_column(row.columns, name)) from None
