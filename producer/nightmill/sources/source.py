"""A source: where the rows are, how they are written, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Literal

import msgspec

from nightmill.errors import SourceError
from nightmill.params import Defaults
from nightmill.sources.folder import read_folder
from nightmill.sources.jobs import lines
from nightmill.sources.jsonl import read_jsonl
from nightmill.sources.line import Line, Rejected, Row
from nightmill.sources.opening import SUFFIXES, is_stream, is_url, open_as_it_is, open_source, shown
from nightmill.sources.parquet import read_parquet
from nightmill.sources.shapes import REQUESTS
from nightmill.sources.tabular import DELIMITERS, read_table
from nightmill.sources.template import Template

Format = Literal["jsonl", "csv", "tsv", "parquet", "files"]

ESCAPED: Final = 3
"""A character written as \\uXXXX is up to this many times its UTF-8 bytes (ASCII aside)."""

SLACK_BYTES: Final = 1 << 16
"""For spaces, the custom_id and what else is around the request."""

MAX_ROW_BYTES: Final = 128 << 20
"""Of a row that was fed already: the largest payload there may be, in escapes."""

_FORMATS: Final[dict[str, Format]] = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet"}


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """An input: a path, a URL or "-" (standard input); its format; the template, if there is one.

    `name` is what it is called where that is not its location, a copy of standard input, say.
    """

    location: str
    format: Format = "jsonl"
    template: Template | None = None
    name: str = ""

    def __str__(self) -> str:
        """Return what it is called in messages."""
        return self.name or shown(self.location)

    @property
    def once(self) -> bool:
        """Whether it can be read only once: standard input, a pipe, a terminal."""
        return is_stream(self.location)


def source_of(
    location: str | Path, given: Format | None = None, template: Template | None = None
) -> Source:
    """Return the source at `location`; its suffix tells the format where none is `given`.

    A directory, and a URL that ends with a slash, is `files`; what has no suffix that is known is
    JSON Lines. Relative paths in its columns are relative to where it is.
    """
    where = str(location)
    if template is not None and not template.folder:
        template = msgspec.structs.replace(template, folder=folder_of(where))
    return Source(location=where, format=given or _format(where), template=template)


def plain_name(location: str) -> str:
    """Return the name of a file without its suffixes: `in` for `s3://bucket/in.csv.gz`."""
    path = PurePosixPath(shown(location) if is_url(location) else str(Path(location).absolute()))
    if path.suffix.lower() in SUFFIXES:
        path = path.with_suffix("")
    return path.name if _is_folder(location) else path.stem


def require_streamable(source: Source) -> None:
    """Raise SourceError when `source` can be read only once and its format does not allow that."""
    if source.once and source.format in {"parquet", "files"}:
        raise SourceError(f"{source}: {source.format} cannot be read from a stream; give its path")


def read_source(source: Source, defaults: Defaults) -> Iterator[Line | Rejected]:
    """Yield each row of `source` as a job, or with what is wrong with it.

    Raises SourceError for a source that cannot be read or, all of it, makes no job.
    """
    found = read_rows(source, ESCAPED * defaults.max_payload_bytes + SLACK_BYTES)
    return lines(_fit(found, source), defaults, source.template)


def read_rows(source: Source, cap: int = MAX_ROW_BYTES) -> Iterator[Row | Rejected]:
    """Yield the rows of `source`; none is over `cap` bytes as it is written.

    A template tells which columns are looked at. Raises SourceError for a source that cannot be
    read.
    """
    looked_at = source.template.columns() if source.template else None
    if source.format == "files":
        text = source.template is not None and (looked_at is None or "text" in looked_at)
        yield from _files(source, cap, text=text)
        return
    with _opened(source) as stream:
        if source.format == "jsonl":
            yield from read_jsonl(stream, cap)
        elif source.format == "parquet":
            yield from read_parquet(stream, looked_at, str(source))
        else:
            yield from read_table(stream, cap, DELIMITERS[source.format])


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    if source.format != "parquet":
        with open_source(source.location) as stream:
            yield stream
        return
    require_streamable(source)
    with open_as_it_is(source.location) as stream:
        yield stream


def _files(source: Source, cap: int, *, text: bool) -> Iterator[Row | Rejected]:
    folder = source.location
    if not is_url(folder) and not Path(folder).is_dir():
        problem = "is no directory" if Path(folder).exists() else "no such directory"
        raise SourceError(f"{source}: {problem}")
    return read_folder(folder, cap, text=text)


def _fit(rows: Iterable[Row | Rejected], source: Source) -> Iterator[Row | Rejected]:
    """Let the rows through, once the columns of a table are found to be what is needed."""
    looked = source.format == "jsonl"  # each line has its own columns
    if source.format == "files" and (source.template is None or source.template.plain):
        raise SourceError(
            f"{source}: is a directory; say what becomes of its files: --prompt '{{{{ text }}}}', "
            "--image path or --document path"
        )
    for row in rows:
        if not looked and isinstance(row, Row):
            _require(source, row.columns.keys())
            looked = True
        yield row


def _require(source: Source, columns: Iterable[str]) -> None:
    """Raise SourceError when no row of a table with these columns can be a job."""
    template, there = source.template, list(columns)
    known = f"there are: {', '.join(map(str, there)) or 'none'}"
    for name in template.needed if template else ():
        if name not in there:
            raise SourceError(f'{source}: no column "{name}"; {known}')
    if (template is None or template.plain) and not REQUESTS.intersection(there):
        name = there[0] if there else "text"
        raise SourceError(
            f"{source}: no column prompt, messages or params; {known}; make a prompt of them: "
            f"--prompt '{{{{ {name} }}}}'"
        )


def _format(location: str) -> Format:
    if _is_folder(location):
        return "files"
    path = PurePosixPath(shown(location))
    if path.suffix.lower() in SUFFIXES:
        path = path.with_suffix("")
    return _FORMATS.get(path.suffix.lower(), "jsonl")


def _is_folder(location: str) -> bool:
    return location.endswith("/") if is_url(location) else Path(location).is_dir()


def folder_of(location: str) -> str:
    """Return what relative paths in a source's columns are relative to."""
    if _is_folder(location):
        return location
    if is_url(location):
        return location.rpartition("/")[0]
    return "" if is_stream(location) else str(Path(location).parent)
