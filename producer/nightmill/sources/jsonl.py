"""JSON Lines, or any file of JSON objects -> rows. One at a time is in memory.

A byte order mark, CRLF and blank lines are accepted. Blank lines count in line numbers.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import BinaryIO, Final

from nightmill.errors import InvalidParamsError, PayloadTooLargeError, SourceError
from nightmill.params import decode, refused
from nightmill.sources.json_values import read_values
from nightmill.sources.line import Rejected, Row, rejected

SHAPE: Final = "one object a line, with params, messages or prompt"
_CHUNK_BYTES: Final = 1 << 16


def read_jsonl(stream: BinaryIO, cap: int) -> Iterator[Row | Rejected]:
    """Yield each line of `stream` as a row, or as Rejected with the reason.

    Only the first `cap` bytes of a longer line are held in memory. Raises SourceError for a source
    that cannot be read, or that is binary (it holds a NUL byte).
    """
    return _rows(raw_lines(stream, cap), cap)


def read_spread(stream: BinaryIO, cap: int) -> Iterator[Row | Rejected]:
    """Yield each object of an array, or of a file whose objects have several lines each."""
    return _rows(read_values(stream, cap), cap)


def _rows(pieces: Iterator[tuple[int, bytes, int]], cap: int) -> Iterator[Row | Rejected]:
    for number, raw, size in pieces:
        if raw.isspace():
            continue
        try:
            if size > cap:
                raise too_long("the line", size, cap)
            columns = decode(raw)
            if not isinstance(columns, dict):
                raise refused("", columns, SHAPE)
            yield Row(number=number, columns=columns, raw=raw)
        except InvalidParamsError as error:
            yield rejected(number, _with_fix(error, raw), raw)


def _with_fix(error: InvalidParamsError, raw: bytes) -> InvalidParamsError:
    """Return the error with what can be done about a file that has it in all lines."""
    fix = ""
    if error.problem.startswith("not JSON") and raw.lstrip()[:1] not in b"{[":
        problem = "not JSON: it does not begin with {; a table needs --format csv (or tsv)"
        return InvalidParamsError(error.field, problem)
    if error.problem.startswith("not UTF-8"):
        fix = ", or name its --encoding"
    elif "trailing characters" in error.problem:
        fix = "; each object needs a line of its own: jq -c . IN > OUT"
    return InvalidParamsError(error.field, error.problem + fix) if fix else error


def raw_lines(stream: BinaryIO, cap: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield (line number, line, size in bytes); a line over `cap` bytes is cut to that.

    Raises SourceError as `read_jsonl` does.
    """
    number = 0
    try:
        while raw := stream.readline(cap + 1):
            number += 1
            size = len(raw)
            if size > cap and not raw.endswith(b"\n"):
                size += _skip_rest(stream)
            if number == 1:
                raw = raw.removeprefix(codecs.BOM_UTF8) or b"\n"
            if b"\0" in raw:
                raise SourceError(
                    f"line {number}: a NUL byte: this is a binary file; give text, or name its "
                    "--format or --encoding"
                )
            yield number, raw, size
    except OSError as error:
        raise SourceError(f"line {number + 1}: cannot be read: {error.strerror or error}") from None


def too_long(what: str, size: int, cap: int) -> PayloadTooLargeError:
    """Return the error for `what`, which has `size` bytes where `cap` are allowed."""
    problem = (
        f"{what} is {size:,} bytes; allowed: {cap:,}; shorten it or raise "
        "NIGHTMILL_MAX_PAYLOAD_BYTES"
    )
    return PayloadTooLargeError("", problem)


def _skip_rest(stream: BinaryIO) -> int:
    """Read to the end of the line without keeping it; return its size in bytes."""
    size = 0
    while chunk := stream.readline(_CHUNK_BYTES):
        size += len(chunk)
        if chunk.endswith(b"\n"):
            break
    return size
