"""CSV and TSV -> rows, by the header in the first line. One record at a time is in memory."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from typing import BinaryIO, Final

from nightmill.errors import InvalidParamsError, SourceError
from nightmill.params import dotted
from nightmill.sources.jsonl import raw_lines, too_long
from nightmill.sources.line import Rejected, Row, rejected

DELIMITERS: Final = {"csv": ",", "tsv": "\t"}

_NOT_UTF8: Final = re.compile(r"[\udc80-\udcff]")
"""Characters by which `surrogateescape` stands for bytes that are not UTF-8."""


def read_table(stream: BinaryIO, cap: int, delimiter: str) -> Iterator[Row | Rejected]:
    """Yield the records of `stream`, with its header as columns; numbered by their first lines.

    A line and a cell may have at most `cap` bytes. Raises SourceError for a header that cannot be
    used, and as `read_jsonl` does.
    """
    csv.field_size_limit(max(cap, csv.field_size_limit()))  # one limit for the whole process
    text = _Lines(stream, cap)
    records = csv.reader(text, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    cells: list[str]
    while True:
        number, cells = text.number + 1, []
        try:
            cells = next(records)
            if header is None:
                header = _header(cells, number) if cells else None
            elif cells:
                yield Row(number=number, columns=_columns(header, cells), table=True)
        except StopIteration:
            return
        except csv.Error as error:
            problem = f"{error}; a quote inside a cell is written twice"
            if header is None:
                raise SourceError(f"line {number}: the header cannot be read: {problem}") from None
            yield rejected(number, InvalidParamsError("", problem))
        except InvalidParamsError as error:
            if header is None:
                raise SourceError(f"the header: {error.at_line(number)}") from None
            yield rejected(number, error, delimiter.join(cells).encode(errors="replace"))


class _Lines:
    """The lines of a stream as text; `number` is that of the last one. Raises for one too long."""

    def __init__(self, stream: BinaryIO, cap: int) -> None:
        self.number = 0
        self._cap = cap
        self._raw = raw_lines(stream, cap)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.number, raw, size = next(self._raw)
        if size > self._cap:
            raise too_long("the line", size, self._cap)
        return raw.decode(errors="surrogateescape")


def _header(cells: list[str], number: int) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if twice is not None:
        raise SourceError(f'line {number}: two columns have the name "{twice}"; each needs its own')
    if any(_NOT_UTF8.search(name) for name in names):
        raise SourceError(f"line {number}: the header is not UTF-8; save it as UTF-8")
    return names


def _columns(header: list[str], cells: list[str]) -> dict[str, object]:
    if len(cells) != len(header):
        problem = f"{len(cells)} cells in this row; the header has {len(header)} columns"
        raise InvalidParamsError("", problem)
    for name, cell in zip(header, cells, strict=True):
        # isascii() first: the search costs more than everything else here.
        if not cell.isascii() and (found := _NOT_UTF8.search(cell)):
            byte = ord(found[0]) - 0xDC00
            problem = f"not UTF-8 (byte 0x{byte:02x} at {found.start()}); save it as UTF-8"
            raise InvalidParamsError(dotted((name,)), problem)
    return dict(zip(header, cells, strict=True))
