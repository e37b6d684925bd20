"""What readers yield: a Row of columns; a Line that can be enqueued; a Rejected one, and why."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from nightmill.errors import InvalidParamsError
from nightmill.params import refused

MAX_ID: Final = 256
"""Characters of a custom_id."""

MAX_SNIPPET: Final = 80

_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One record of a source, no job yet: its place (1-based) and its columns.

    The place is that of its line in a text file. `raw` is how it stands there, as far as a reader
    keeps it. A `table` has columns of its own choice and text where a request has numbers.
    """

    number: int
    columns: dict[str, object]
    raw: bytes = b""
    table: bool = False


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a source: its place (1-based), its id, and the request to send (JSON)."""

    number: int
    custom_id: str
    body: bytes
    model: str
    warnings: tuple[str, ...] = ()


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """One line that cannot be a job: why, and how it begins ("" for a duplicate).

    Its snippet shows MAX_SNIPPET bytes of the line.
    """

    number: int
    error: InvalidParamsError
    snippet: str


def rejected(number: int, error: InvalidParamsError, raw: bytes = b"") -> Rejected:
    """Return what stands for line `number`, which begins with `raw`."""
    return Rejected(number=number, error=error.at_line(number), snippet=snippet(raw))


def custom_id_of(value: object, number: int) -> str:
    """Return the id a row gives, `line-<number>` when it gives none (missing or null).

    Raises InvalidParamsError when it is no string of 1 to MAX_ID characters, or cannot be printed.
    """
    if value is None:
        return f"line-{number}"
    if not isinstance(value, str):
        raise refused("custom_id", value, "a string", fix="put it in quotes")
    if not 0 < len(value) <= MAX_ID or _UNFIT.search(value):
        allowed = f"1 to {MAX_ID} characters, no control characters"
        raise refused("custom_id", value, allowed, fix=f"it has {len(value):,} characters")
    return value


def snippet(raw: bytes) -> str:
    """Return how a raw line begins, as printable text."""
    head = raw[:MAX_SNIPPET].decode(errors="replace")
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in head)
