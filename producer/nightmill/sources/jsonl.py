"""JSON Lines -> jobs, one line in memory at a time.

A line is one of three objects:

- `{"custom_id", "params": {...}}`, the shape of Message Batches;
- `{"custom_id", "messages": [...], ...}`, the request itself;
- `{"custom_id", "prompt": "...", ...}`, a row: the prompt becomes one user message, the other
  fields are request fields, and null means "not given" (tables are full of nulls).

`custom_id` may always be left out. A byte order mark, CRLF and blank lines are accepted; a blank
line counts in the numbering.
"""

from __future__ import annotations

import codecs
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from nightmill.errors import InvalidParamsError, PayloadTooLargeError, SourceError
from nightmill.params import FIELDS, Checked, Defaults, check, decode, dotted, refused
from nightmill.sources.line import Line, Rejected, custom_id_of, snippet
from nightmill.sources.opening import open_source

ESCAPED: Final = 3
"""A character written as \\uXXXX is up to this many times its UTF-8 bytes (ASCII aside)."""

SLACK_BYTES: Final = 1 << 16
"""For spaces, the custom_id and what else is around the request."""

_CHUNK_BYTES: Final = 1 << 16
_ROW_FIELDS: Final = FIELDS.keys() - {"messages"}
_SHAPE: Final = "one object a line, with params, messages or prompt"


def read_jsonl(source: Path | BinaryIO, defaults: Defaults) -> Iterator[Line | Rejected]:
    """Yield each line of `source` ("-" is standard input) as a job, or with what is wrong with it.

    Raises SourceError for a source that cannot be read, or that is binary (a NUL byte).
    """
    if isinstance(source, Path):
        with open_source(source) as stream:
            yield from read_jsonl(stream, defaults)
        return
    cap = ESCAPED * defaults.max_payload_bytes + SLACK_BYTES
    for number, raw, size in _raw_lines(source, cap):
        if b"\0" in raw:
            raise SourceError(
                f"line {number}: a NUL byte: this is a binary (or UTF-16) file; give JSON Lines"
            )
        if raw.isspace():
            continue
        try:
            if size > cap:
                raise _too_long(size, cap)
            yield _line(number, raw, defaults)
        except InvalidParamsError as error:
            yield Rejected(number=number, error=error.at_line(number), snippet=snippet(raw))


def _raw_lines(stream: BinaryIO, cap: int) -> Iterator[tuple[int, bytes, int]]:
    """Yield (number, line, its size); of a line over `cap` bytes only the beginning."""
    number = 0
    try:
        while raw := stream.readline(cap + 1):
            number += 1
            size = len(raw)
            if size > cap and not raw.endswith(b"\n"):
                size += _skip_rest(stream)
            if number == 1:
                raw = raw.removeprefix(codecs.BOM_UTF8) or b"\n"
            yield number, raw, size
    except OSError as error:
        raise SourceError(f"line {number + 1}: cannot be read: {error.strerror}") from None


def _skip_rest(stream: BinaryIO) -> int:
    """Read to the end of the line, keeping nothing; return how many bytes that was."""
    size = 0
    while chunk := stream.readline(_CHUNK_BYTES):
        size += len(chunk)
        if chunk.endswith(b"\n"):
            break
    return size


def _too_long(size: int, cap: int) -> PayloadTooLargeError:
    problem = (
        f"the line is {size:,} bytes; allowed: {cap:,}; shorten it or raise "
        "NIGHTMILL_MAX_PAYLOAD_BYTES"
    )
    return PayloadTooLargeError("", problem)


def _line(number: int, raw: bytes, defaults: Defaults) -> Line:
    row = decode(raw)
    if not isinstance(row, dict):
        raise refused("", row, _SHAPE)
    custom_id = custom_id_of(row.pop("custom_id", None), number)
    checked = _checked(row, defaults)
    return Line(
        number=number,
        custom_id=custom_id,
        body=checked.body,
        model=checked.model,
        warnings=checked.warnings,
    )


def _checked(row: dict[str, object], defaults: Defaults) -> Checked:
    """Find the request in one of the three shapes and check it."""
    if "params" in row:
        params = row.pop("params")
        _refuse_others(row, "move it into params")
        if not isinstance(params, dict):
            raise refused("params", params, "an object, the request")
        return check(params, defaults)
    if "prompt" in row:
        return check(_from_row(row), defaults)
    if "messages" in row:
        return check(row, defaults)
    raise InvalidParamsError("", f"no request in this line; allowed: {_SHAPE}")


def _from_row(row: dict[str, object]) -> dict[str, object]:
    prompt = row.pop("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise refused("prompt", prompt, "a non-empty string")
    fields = {name: value for name, value in row.items() if value is not None}
    _refuse_others(fields.keys() - _ROW_FIELDS, "put other request fields under params")
    return {**fields, "messages": [{"role": "user", "content": prompt}]}


def _refuse_others(names: Collection[str], fix: str) -> None:
    if names:
        raise InvalidParamsError(dotted((min(names),)), f"unknown field in this line; {fix}")
