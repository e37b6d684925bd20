"""Finds the JSON value of an answer's text: plain, in a fenced block, or in surrounding prose.

Where a text has several values, an answer usually ends with the one that it means. So the choice
is the last one that has the wanted shape, first among fenced blocks, then in the whole text. The
choice depends on the text and the shape alone, so that a reader finds what the worker checked.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import msgspec

from nightmill.errors import NightmillError
from nightmill.records.bounds import MAX_INT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_DEPTH: Final = 100
"""Deepest nesting of an output; deeper ones are no output."""
MAX_BROKEN: Final = 1_000
"""Broken values in a text after which no more are looked for."""
_SHOWN: Final = 40
"""Characters of a text that a problem shows."""
_CLOSING: Final = re.compile(r"\n[ \t]*```")
"""The line that ends a fenced block."""
_OPENING: Final = re.compile(r'\{(?=\s*["}])|\[(?=\s*[\]\[{"\dtfn-])')
"""Where an object or an array may begin. A brace of prose or of code mostly does not fit."""
_decode = msgspec.json.Decoder().decode
_raw_decode = json.JSONDecoder().raw_decode


class NoOutputError(NightmillError):
    """The text holds no JSON value."""


def find_json(text: str, fits: Callable[[object], bool] = lambda _: True) -> Any:  # noqa: ANN401
    """Return the JSON value of an answer's `text`; `fits` tells whether a value has the shape.

    A text that is JSON as a whole is its value. Else it is the last fenced block that is JSON and
    fits, else the last object or array in the text that fits, else the last one of these. A text
    that begins with a broken value is no output. Raises NoOutputError, which says why.
    """
    whole = text.strip().lstrip("\ufeff").lstrip()
    if not whole:
        raise NoOutputError("the answer has no text; expected JSON")
    if whole[0] in '{["-0123456789' or whole in {"true", "false", "null"}:
        try:
            return read_json(whole)
        except NoOutputError as error:
            reason = str(error)
            if "trailing" not in reason and _OPENING.match(whole):
                raise
    else:
        reason = f"given a text that begins {_shown(whole)}; expected JSON"
    last: list[object] = []
    for values in (_fenced, _outermost, _embedded):
        found = list(values(whole))
        if chosen := [value for value in found if fits(value)]:
            return chosen[-1]
        last = last or found[-1:]
    if not last:
        raise NoOutputError(reason)
    return last[0]


def read_json(text: str) -> Any:  # noqa: ANN401 - any JSON value
    """Read `text`, which is JSON as a whole; raises NoOutputError that says where it is not.

    Integers of more than 64 bits and values nested deeper than MAX_DEPTH are refused: files and
    data frames cannot hold them.
    """
    try:
        value = _decode(text)
    except RecursionError:
        raise NoOutputError(_TOO_DEEP) from None
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise NoOutputError(_where(text, error)) from None
    require_bounded(value)
    return value


_TOO_DEEP: Final = f"the JSON is nested deeper than {MAX_DEPTH} levels; expected fewer"


def _fenced(text: str) -> Iterator[object]:
    """Yield the value of each fenced block that is JSON as a whole."""
    place = 0
    while (fence := text.find("```", place)) >= 0:
        begin = text.find("\n", fence)
        close = _CLOSING.search(text, begin) if begin >= 0 else None
        if close is None:
            return
        place = close.end()
        with suppress(NoOutputError):
            yield read_json(text[begin : close.start()].strip())


def _outermost(text: str) -> Iterator[object]:
    """Yield what stands between the first bracket and the last one, when that is one value."""
    first = [place for place in map(text.find, "{[") if place >= 0]
    if first:
        last = max(text.rfind("}"), text.rfind("]"))
        with suppress(NoOutputError):
            yield read_json(text[min(first) : last + 1])


def _embedded(text: str) -> Iterator[object]:
    """Yield the objects and arrays of `text` that are in no other one.

    The search goes on behind a value, or behind the place where a value breaks: what stands within
    a broken value is no output, and each character is read once. It ends after MAX_BROKEN.
    """
    place = broken = 0
    while broken < MAX_BROKEN and (match := _OPENING.search(text, place)):
        try:
            place = _raw_decode(text, match.start())[1]
            yield read_json(text[match.start() : place])
        except json.JSONDecodeError as error:
            place, broken = max(error.pos, match.end()), broken + 1
            if error.msg.startswith("Unterminated"):  # its place is where the string begins
                return
        except NoOutputError:
            continue
        except (RecursionError, ValueError):  # too deep, or a number of thousands of digits
            return


def require_bounded(value: object) -> None:
    """Raise NoOutputError for an integer over 64 bits, or for nesting over MAX_DEPTH."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[object] = []
        for each in level:
            if isinstance(each, dict):
                below += each.values()
            elif isinstance(each, list):
                below += each
            elif isinstance(each, int) and not -MAX_INT - 1 <= each <= MAX_INT:
                digits = len(str(each))
                raise NoOutputError(f"given an integer of {digits} digits; expected 64 bits")
        if not below:
            return
        level = below
    raise NoOutputError(_TOO_DEEP)


def _where(text: str, error: Exception) -> str:
    """Return where `text` is no JSON: what msgspec says, and the text around that place."""
    problem = str(error).removeprefix("JSON is malformed: ")
    found = re.search(r"byte (\d+)", problem)
    if found is None:
        cut = "it ends too early" if "truncated" in problem else problem
        return f"the JSON is not valid: {cut}; expected one whole value"
    before = text.encode(errors="replace")[: int(found[1])].decode(errors="ignore")
    problem = problem.partition(" (")[0]
    at = text[max(0, len(before) - _SHOWN // 2) : len(before) + _SHOWN // 2]
    return f"the JSON is not valid at character {len(before) + 1}, near {_shown(at)}: {problem}"


def _shown(text: str) -> str:
    return json.dumps(text if len(text) <= _SHOWN else text[:_SHOWN] + "...", ensure_ascii=False)
