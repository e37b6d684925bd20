"""Options that say how a source becomes jobs: its format, and the template for its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nightmill.errors import InvalidParamsError, SourceError

if TYPE_CHECKING:
    from nightmill.sources import Source, Template

NOT_SET = frozenset({"custom_id", "params"})
"""Keys that a template refuses with reasons of its own."""

FROM_FILE = "@"
"""First character of an option's value that names a file to read the value from."""

AllowUnknown = Annotated[
    bool,
    typer.Option(
        "--allow-unknown", help="Send request fields that are not known, such as a server's own."
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """The format of a source and the template for its rows."""

    format: Annotated[
        Literal["jsonl", "csv", "tsv", "parquet", "files"] | None,
        typer.Option(help="Format of the source.  [default: by its suffix, else jsonl]"),
    ] = None
    delimiter: Annotated[
        str | None,
        typer.Option(
            metavar="CHAR",
            help="Character between a CSV's cells, or tab.  [default: as its header shows]",
        ),
    ] = None
    encoding: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Of the text, such as cp1252 or latin-1.  [default: UTF-8, UTF-16]"
        ),
    ] = None
    prompt: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="Jinja template over a row's columns; @FILE reads it from a file."
        ),
    ] = None
    system: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Template of the system prompt, as --prompt."),
    ] = None
    id: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Column that holds the custom_id.  [default: custom_id, else line-N]",
        ),
    ] = None
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Column that holds an image's path (relative to the source) or URL; repeatable.",
        ),
    ] = None
    document: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="Column that holds the path or URL of a PDF or text file; repeatable.",
        ),
    ] = None
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Set a request field in every job, also where its row has one; null removes it; "
            "KEY=@FILE reads the value from a file.",
        ),
    ] = None
    beta: Annotated[
        list[str] | None,
        typer.Option(
            "--beta",
            metavar="NAME",
            help="Beta of the API for every job, beside those of its row; repeatable.",
        ),
    ] = None
    api_version: Annotated[
        str | None,
        typer.Option(
            metavar="DATE",
            help="anthropic-version of rows that name none.  [default: the worker's setting]",
        ),
    ] = None
    allow_unknown: AllowUnknown = False

    def source(self, location: str) -> Source:
        """Return the source at `location`. Raises SourceError, InvalidParamsError."""
        from msgspec.structs import replace  # noqa: PLC0415 - `--help` stays fast

        from nightmill.params import api_of  # noqa: PLC0415
        from nightmill.sources import (  # noqa: PLC0415
            delimiter_named,
            encoding_named,
            source_of,
        )

        source = source_of(location, self.format, self._template())
        if self.delimiter is not None and source.format not in {"csv", "tsv"}:
            problem = f"{source} is read as {source.format}; a delimiter needs --format csv"
            raise InvalidParamsError("--delimiter", problem)
        return replace(
            source,
            delimiter=delimiter_named(self.delimiter),
            encoding=encoding_named(self.encoding),
            allow_unknown=self.allow_unknown,
            api=api_of(self.api_version, self.beta, names=("--api-version", "--beta")),
        )

    def _template(self) -> Template | None:
        """Return the template that the options make, None when none of them is given."""
        texts = self.prompt is not None or self.system is not None
        if not (texts or self.id or self.image or self.document or self.changes):
            return None
        from nightmill.sources import Template  # noqa: PLC0415 - `--help` stays fast

        try:
            return Template(
                prompt=_text("--prompt", self.prompt),
                system=_text("--system", self.system),
                id=self.id,
                images=tuple(self.image or ()),
                documents=tuple(self.document or ()),
                set=parse_changes(self.changes or (), allow_unknown=self.allow_unknown),
            )
        except InvalidParamsError as error:
            field = error.field if error.field.startswith("--") else f"--{error.field}"
            raise InvalidParamsError(field, error.problem) from None


def parse_changes(given: Sequence[str], *, allow_unknown: bool) -> dict[str, object]:
    """Return the fields of --set KEY=VALUE; a value is JSON, or text when it is not JSON.

    The value @FILE is the content of that file. Raises InvalidParamsError, also for a field that is
    not known unless `allow_unknown`; one that is removed need not be known.
    """
    changes: dict[str, object] = {}
    for change in given:
        key, equals, value = change.partition("=")
        if not key or not equals:
            raise InvalidParamsError("--set", f"{change!r} is not KEY=VALUE, as max_tokens=4096 is")
        changes[key] = _value(key, value)
        if not allow_unknown and changes[key] is not None:
            _require_known(key)
    return changes


def _value(key: str, value: str) -> object:
    import msgspec  # noqa: PLC0415 - `--help` stays fast

    text = _text(f"--set {key}", value) or ""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        if value.startswith(FROM_FILE) and value.endswith(".json"):
            raise SourceError(f"--set {key}: {value[1:]} is not JSON: {error}") from None
        return text.removesuffix("\n")


def _require_known(key: str) -> None:
    from nightmill.params import KNOWN, unknown_field  # noqa: PLC0415 - `--help` stays fast

    if key not in KNOWN and key not in NOT_SET:
        way_out = "--allow-unknown sends it anyway"
        raise InvalidParamsError("--set", f"{key} is {unknown_field(key, way_out)}")


def _text(option: str, given: str | None) -> str | None:
    """Return the text of an option; for `@FILE`, the content of the file."""
    if given is None or not given.startswith(FROM_FILE):
        return given
    path = given.removeprefix(FROM_FILE)
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise SourceError(f"{option}: {path} is not UTF-8; save it as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise SourceError(f"{option}: {path} cannot be read: {reason}") from None
