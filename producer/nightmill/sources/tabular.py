"""CSV and TSV -> rows, by the header in the first line. One record at a time is in memory."""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator
from typing import BinaryIO, Final, Literal

import msgspec

from nightmill.errors import InvalidParamsError, SourceError
from nightmill.params import dotted
from nightmill.sources.jsonl import raw_lines, too_long
from nightmill.sources.line import Rejected, Row, rejected
from nightmill.sources.names import near_twins, same_names

Format = Literal["csv", "tsv"]

DELIMITERS: Final = {"csv": ",", "tsv": "\t"}
_OTHERS: Final = (";", "\t", "|", ",")
"""Delimiters that are looked for in a header without the usual one."""

_QUOTED: Final = re.compile(r'"(?:[^"]|"")*"')
_SEP: Final = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
"""The first line with which Excel names the delimiter."""

_NOT_UTF8: Final = re.compile(r"[\udc80-\udcff]")
"""Characters by which `surrogateescape` stands for bytes that are not UTF-8."""

_ENCODING: Final = "name its --encoding (cp1252 for most files of Windows), or save it as UTF-8"
_QUOTES: Final = 'a quote inside a cell is written twice ("" and not \\")'
SWALLOWED: Final = (
    "a cell in quotes spans lines that look like rows of the table; if a quote is missing there, "
    "those rows are lost"
)


def delimiter_named(name: str | None) -> str | None:
    """Return the delimiter of an option: one character, or "tab". Raises InvalidParamsError."""
    if name is None:
        return None
    found = {"tab": "\t", "\\t": "\t"}.get(name.lower(), name)
    if len(found) != 1 or found in '"\r\n':
        problem = f"{name!r:.60} is not one character, such as ; or | or tab"
        raise InvalidParamsError("--delimiter", problem)
    return found


def read_table(
    stream: BinaryIO, cap: int, kind: Format, delimiter: str | None = None
) -> Iterator[Row | Rejected]:
    """Yield the records of `stream`, with its header as columns; numbered by their first lines.

    Without a `delimiter` it is the usual one of its `kind`, or else the one that the header shows.
    A line and a cell may have at most `cap` bytes. Raises SourceError for a header that cannot be
    used, and as `read_jsonl` does.
    """
    csv.field_size_limit(max(cap, csv.field_size_limit()))  # one limit for the whole process
    lines = _Lines(stream, cap)
    named = lines.take_sep()
    used = delimiter or named or _delimiter_of(lines.first(), DELIMITERS[kind])
    notes = []
    if delimiter is None and named is None and used != DELIMITERS[kind]:
        notes.append(f"the columns are separated by {used!r}; --delimiter sets another character")
    header = _read_header(lines, used)
    if twins := near_twins(header):
        notes.append(twins)
    for row in _records(lines, header, used):
        if notes and isinstance(row, Row):
            yield msgspec.structs.replace(row, warnings=(*notes, *row.warnings))
            notes = []
        else:
            yield row


def _read_header(lines: _Lines, delimiter: str) -> list[str]:
    """Return the names of the columns; [] for a table without lines. Raises SourceError."""
    for number, cells in _parsed(lines, delimiter):
        if isinstance(cells, InvalidParamsError):
            raise SourceError(f"the header cannot be read: {cells.at_line(number)}")
        names = [cell.strip() or f"column {place}" for place, cell in enumerate(cells, 1)]
        if twice := same_names(names):
            raise SourceError(f"line {number}: {twice}")
        if any(_NOT_UTF8.search(name) for name in names):
            raise SourceError(f"line {number}: the header is not UTF-8; {_ENCODING}")
        return names
    return []


def _records(lines: _Lines, header: list[str], delimiter: str) -> Iterator[Row | Rejected]:
    for number, cells in _parsed(lines, delimiter):
        if isinstance(cells, InvalidParamsError):
            yield rejected(number, cells)
            continue
        try:
            columns = _columns(header, cells)
        except InvalidParamsError as error:
            yield rejected(number, error, delimiter.join(cells).encode(errors="replace"))
            continue
        warned = len(lines.taken) > 1 and _swallows(lines.taken, cells, delimiter)
        warnings = (SWALLOWED,) if warned else ()
        yield Row(number=number, columns=columns, table=True, warnings=warnings)


def _parsed(lines: _Lines, delimiter: str) -> Iterator[tuple[int, list[str] | InvalidParamsError]]:
    """Yield the number of each record's first line with its cells, or what is wrong with it.

    After a quote that is not closed, the lines behind its own are read as records again.
    """
    records = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.begin()
        number = lines.number + 1
        try:
            if cells := next(records):
                yield number, cells
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"{error}; {_QUOTES}"
            if len(lines.taken) > 1:
                problem = f"a quote is opened in this row and not closed ({error}); {_QUOTES}"
                lines.take_back()
            yield number, InvalidParamsError("", problem)
        except InvalidParamsError as error:
            yield number, error


class _Lines:
    """The lines of a stream as text; `number` is that of the last one. Raises for one too long."""

    def __init__(self, stream: BinaryIO, cap: int) -> None:
        self.number = 0
        self.taken: list[str] = []
        """The lines of the record that is read."""
        self._cap = cap
        self._raw = raw_lines(stream, cap)
        self._back: deque[str] = deque()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.number += 1
        line = self._back.popleft() if self._back else self._next()
        self.taken.append(line)
        return line

    def begin(self) -> None:
        """Begin a record."""
        self.taken = []

    def take_back(self) -> None:
        """Give the lines of the record back, without its first."""
        self._back.extendleft(reversed(self.taken[1:]))
        self.number -= len(self.taken) - 1

    def first(self) -> str:
        """Return the next line without taking it; "" when there is none."""
        if not self._back:
            try:
                self._back.append(self._next())
            except StopIteration:
                return ""
            except InvalidParamsError as error:
                raise SourceError(f"the header cannot be read: {error.at_line(1)}") from None
        return self._back[0]

    def take_sep(self) -> str | None:
        """Take a first line such as `sep=;`, if there is one, and return its character."""
        match = _SEP.fullmatch(self.first())
        if match:
            next(self)
        return match[1] if match else None

    def _next(self) -> str:
        _, raw, size = next(self._raw)
        if size > self._cap:
            raise too_long("the line", size, self._cap)
        return raw.decode(errors="surrogateescape")


def _delimiter_of(header: str, usual: str) -> str:
    """Return `usual`, unless the header has only another delimiter."""
    text = _QUOTED.sub("", header)
    if usual in text:
        return usual
    return max(_OTHERS, key=text.count) if any(sign in text for sign in _OTHERS) else usual


def _swallows(taken: list[str], cells: list[str], delimiter: str) -> bool:
    """Return whether the later lines of a record look like records: each like its first cell."""
    shape = _shape(cells[0])
    rest = (next(csv.reader([line], delimiter=delimiter), []) for line in taken[1:])
    return len(cells) > 1 and all(
        len(each) == len(cells) and _shape(each[0]) == shape for each in rest
    )


def _shape(cell: str) -> str:
    """Return what a cell looks like: `12` and `345` alike, `a12` and `b3` alike."""
    return re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", cell.strip()))


def _some(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _columns(header: list[str], cells: list[str]) -> dict[str, object]:
    if len(cells) != len(header):
        row, columns = _some(len(cells), "cell"), _some(len(header), "column")
        problem = f"{row} in this row; the header has {columns}"
        if len(cells) > len(header):
            problem += "; a cell that holds the delimiter needs quotes"
        raise InvalidParamsError("", problem)
    for name, cell in zip(header, cells, strict=True):
        # isascii() first: the search costs more than everything else here.
        if not cell.isascii() and (found := _NOT_UTF8.search(cell)):
            byte = ord(found[0]) - 0xDC00
            problem = f"not UTF-8 (byte 0x{byte:02x} at {found.start()}); {_ENCODING}"
            raise InvalidParamsError(dotted((name,)), problem)
    return dict(zip(header, cells, strict=True))
