"""What readers yield: a Row of columns, a Line that can be enqueued, or a Rejected one."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from nightmill.errors import InvalidParamsError
from nightmill.params import refused
from nightmill.records.api import NO_API, Api
from nightmill.records.bounds import require_name

MAX_ID: Final = 256
"""Longest custom_id of a source, characters."""

MAX_SNIPPET: Final = 80
"""Bytes of a rejected line that are shown."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One record of a source, before it is made a job."""

    number: int
    """Number of its line in a text file, or of the record in other sources; from 1."""
    columns: dict[str, object]
    raw: bytes = b""
    """Its line, for messages; b"" when the reader does not keep it."""
    warnings: tuple[str, ...] = ()
    """Notes on how it was read, for a person."""
    table: bool = False
    """Whether its columns are those of a table: any names, and text in place of numbers."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One checked job of a source."""

    number: int
    """See Row."""
    custom_id: str
    body: bytes
    """The request to send, as JSON."""
    model: str
    warnings: tuple[str, ...] = ()
    """Notes on the request, for a person."""
    api: Api = NO_API

    @property
    def request(self) -> bytes:
        """The request as requests are compared."""
        return self.api.beside(self.body)


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """One line that cannot be a job."""

    number: int
    """See Row."""
    error: InvalidParamsError
    snippet: str
    """The first MAX_SNIPPET bytes of the line as printable text; "" for a duplicate."""


def rejected(number: int, error: InvalidParamsError, raw: bytes = b"") -> Rejected:
    """Return the Rejected line `number`; `raw` is the line, or its beginning."""
    return Rejected(number=number, error=error.at_line(number), snippet=snippet(raw))


def custom_id_of(value: object, number: int) -> str:
    """Return the custom_id `value` of a row; `line-<number>` when it is missing or null.

    Raises InvalidParamsError when it is not a string of 1 to MAX_ID characters and at most
    MAX_NAME_BYTES bytes, or has control characters.
    """
    if value is None:
        return f"line-{number}"
    if not isinstance(value, str):
        raise refused("custom_id", value, "a string", fix="put it in quotes")
    if not 0 < len(value) <= MAX_ID or _CONTROL.search(value):
        allowed = f"1 to {MAX_ID} characters, no control characters"
        raise refused("custom_id", value, allowed, fix=f"it has {len(value):,} characters")
    require_name("custom_id", value)
    return value


def snippet(raw: bytes) -> str:
    """Return the first MAX_SNIPPET bytes of a line as printable text."""
    head = raw[:MAX_SNIPPET].decode(errors="replace")
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in head)
