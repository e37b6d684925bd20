"""A source: where its rows are, their format, and the template that makes jobs of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, cast

import msgspec

from nightmill.errors import SourceError
from nightmill.params import Defaults
from nightmill.records.api import NO_API, Api
from nightmill.sources.folder import read_folder
from nightmill.sources.jobs import lines
from nightmill.sources.json_values import is_spread
from nightmill.sources.jsonl import read_jsonl, read_spread
from nightmill.sources.line import Line, Rejected, Row
from nightmill.sources.names import columns_there
from nightmill.sources.opening import (
    HEAD_BYTES,
    is_stream,
    is_url,
    open_as_it_is,
    open_source,
    without_secrets,
)
from nightmill.sources.packed import SUFFIXES, inner_name
from nightmill.sources.parquet import read_parquet
from nightmill.sources.shapes import REQUESTS
from nightmill.sources.tabular import read_table
from nightmill.sources.template import Template

if TYPE_CHECKING:
    import io

Format = Literal["jsonl", "csv", "tsv", "parquet", "files"]

ESCAPED: Final = 3
"""Characters beyond ASCII are up to this many times longer as \\uXXXX than in UTF-8."""

SLACK_BYTES: Final = 1 << 16
"""Allowance for spaces, the custom_id and other keys around the request, bytes."""

MAX_ROW_BYTES: Final = 128 << 20
"""Longest row when MAX_PAYLOAD_BYTES is not known: the largest payload, all in escapes."""

_FORMATS: Final[dict[str, Format]] = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """An input and how to read it."""

    location: str
    """A path, a URL, or "-" for standard input."""
    format: Format = "jsonl"
    template: Template | None = None
    """Makes a job of a row; None when rows are requests themselves."""
    name: str = ""
    """Its name in messages, if not the location: for a copy of standard input, for example."""
    delimiter: str | None = None
    """The character between the cells of a CSV or TSV; None: found in its header."""
    encoding: str | None = None
    """Of its text. None: UTF-8, or UTF-16 where the first bytes show it."""
    allow_unknown: bool = True
    """Whether request fields that are not known are sent. False: a row that has one is bad."""
    api: Api = NO_API
    """The API version of rows that name none, and betas of all rows."""

    def __str__(self) -> str:
        """Return its name in messages."""
        return self.name or without_secrets(self.location)

    @property
    def once(self) -> bool:
        """Whether it can be read only once: standard input, a pipe, a terminal."""
        return is_stream(self.location)


def source_of(
    location: str | Path, given: Format | None = None, template: Template | None = None
) -> Source:
    """Return the source at `location`. Its format is `given`, or follows from the suffix.

    A directory, or a URL that ends with a slash, has the format `files`. A location with any other
    unknown suffix is JSON Lines. Relative paths in its columns start at the source's folder.
    """
    where = str(location)
    if template is not None and not template.folder:
        template = msgspec.structs.replace(template, folder=folder_of(where))
    return Source(location=where, format=given or _format(where), template=template)


def plain_name(location: str) -> str:
    """Return a source's file name without its suffixes: `in` for `s3://bucket/in.csv.gz`."""
    path = PurePosixPath(
        without_secrets(location) if is_url(location) else str(Path(location).absolute())
    )
    if path.suffix.lower() in SUFFIXES:
        path = path.with_suffix("")
    return path.name if _is_folder(location) else path.stem


def require_streamable(source: Source) -> None:
    """Raise SourceError when `source` is a stream but its format needs a file or a folder."""
    if source.once and source.format in {"parquet", "files"}:
        raise SourceError(f"{source}: {source.format} cannot be read from a stream; give its path")


def read_source(source: Source, defaults: Defaults) -> Iterator[Line | Rejected]:
    """Yield each row of `source` as a job, or as Rejected with the reason.

    Raises SourceError when the source cannot be read, or when no row of it can be a job.
    """
    found = read_rows(source, ESCAPED * defaults.max_payload_bytes + SLACK_BYTES)
    defaults = msgspec.structs.replace(
        defaults, allow_unknown=source.allow_unknown, api=source.api.or_else(defaults.api)
    )
    return lines(_require_columns(found, source), defaults, source.template)


def read_rows(source: Source, cap: int = MAX_ROW_BYTES) -> Iterator[Row | Rejected]:
    """Yield the rows of `source`; a row over `cap` bytes in the source is Rejected.

    Only the columns that the template uses are read. Raises SourceError when the source cannot be
    read.
    """
    used = source.template.columns() if source.template else None
    if source.format == "files":
        text = source.template is not None and (used is None or "text" in used)
        yield from _files(source, cap, text=text)
        return
    with _opened(source) as stream:
        if source.format == "jsonl":
            spread = is_spread(cast("io.BufferedReader", stream).peek(HEAD_BYTES))
            yield from (read_spread if spread else read_jsonl)(stream, cap)
        elif source.format == "parquet":
            yield from read_parquet(stream, used, str(source))
        else:
            yield from read_table(stream, cap, source.format, source.delimiter)


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    if source.format != "parquet":
        with open_source(source.location, source.encoding) as stream:
            yield stream
        return
    require_streamable(source)
    with open_as_it_is(source.location) as stream:
        yield stream


def _files(source: Source, cap: int, *, text: bool) -> Iterator[Row | Rejected]:
    folder = source.location
    if not is_url(folder) and not Path(folder).is_dir():
        problem = "is not a directory" if Path(folder).exists() else "no such directory"
        raise SourceError(f"{source}: {problem}")
    return read_folder(folder, cap, text=text, encoding=source.encoding)


def _require_columns(rows: Iterable[Row | Rejected], source: Source) -> Iterator[Row | Rejected]:
    """Yield `rows`, after a check that a table has the columns that are needed."""
    checked = source.format == "jsonl"  # each line has its own columns
    if source.format == "files" and (source.template is None or source.template.plain):
        raise SourceError(
            f"{source}: is a directory; say how its files become jobs: --prompt '{{{{ text }}}}', "
            "--image path or --document path"
        )
    for row in rows:
        if not checked and isinstance(row, Row):
            _require(source, row.columns.keys())
            checked = True
        yield row


def _require(source: Source, columns: Iterable[str]) -> None:
    """Raise SourceError when no row of a table with these columns can be a job."""
    template, present = source.template, list(columns)
    known = f"there are: {', '.join(map(str, present)) or 'none'}"
    for name in template.needed if template else ():
        if name not in present:
            raise SourceError(f'{source}: no column "{name}"; {columns_there(present, name)}')
    if (template is None or template.plain) and not REQUESTS.intersection(present):
        name = present[0] if present else "text"
        raise SourceError(
            f"{source}: no column prompt, messages or params; {known}; make a prompt of them: "
            f"--prompt '{{{{ {name} }}}}'"
        )


def _format(location: str) -> Format:
    if _is_folder(location):
        return "files"
    path = PurePosixPath(without_secrets(location))
    packing = path.suffix.lower()
    if packing in SUFFIXES:
        path = path.with_suffix("")
    if packing == ".zip" and path.suffix.lower() not in _FORMATS and not is_url(location):
        path = PurePosixPath(inner_name(location))
    return _FORMATS.get(path.suffix.lower(), "jsonl")


def _is_folder(location: str) -> bool:
    return location.endswith("/") if is_url(location) else Path(location).is_dir()


def folder_of(location: str) -> str:
    """Return the folder at which relative paths in a source's columns start."""
    if _is_folder(location):
        return location
    if is_url(location):
        return location.rpartition("/")[0]
    return "" if is_stream(location) else str(Path(location).parent)
