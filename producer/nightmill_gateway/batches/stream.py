"""Reads `{"requests": [...]}` as it arrives: one request is in memory, not the whole body. Pure."""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Any, Final, Literal

from nightmill.errors import InvalidParamsError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_REQUEST: Final = 64 << 20
"""Longest request as text, characters: JSON escapes are longer than what is sent."""
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_LITERAL: Final = re.compile(r"[-+.\w]*")
MAX_WHOLE: Final = 1 << 20
"""An unfinished value of more characters is not read again with each piece."""
_NOTHING: Final = object()
_decode = json.JSONDecoder().raw_decode

_State = Literal["start", "key", "colon", "value", "next", "first", "element", "after", "end"]
_VALUES: Final = frozenset({"value", "first", "element", "key"})
_MOVES: Final[dict[tuple[_State, str], _State]] = {
    ("start", "{"): "key",
    ("colon", ":"): "value",
    ("next", ","): "key",
    ("next", "}"): "end",
    ("after", ","): "element",
    ("after", "]"): "next",
}
"""(state, sign between values) -> the state after it."""


class RequestsReader:
    """Yields the elements of `requests`; the other fields of the object are in `fields` then."""

    def __init__(self) -> None:
        """Begin before the first byte."""
        self.fields: dict[str, Any] = {}
        self.begun = False
        """Whether the field `requests` was there."""
        self._text = ""
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._state: _State = "start"
        self._key = ""
        self._again_at = 0
        self._last = False

    def feed(self, piece: bytes) -> Iterator[Any]:
        """Yield the requests that end in `piece`. Raises InvalidParamsError, also for no JSON."""
        yield from self._read(piece)

    def end(self) -> Iterator[Any]:
        """Yield the rest. Raises InvalidParamsError when the body is cut, or is no object."""
        self._last = True
        yield from self._read(b"")
        if self._state != "end":
            raise InvalidParamsError("", "not JSON: the body ends too early")

    def _read(self, piece: bytes) -> Iterator[Any]:
        try:
            self._text += self._utf8.decode(piece, self._last)
        except UnicodeDecodeError:
            raise InvalidParamsError("", "not UTF-8: encode the body as UTF-8") from None
        if len(self._text) < self._again_at and not self._last:
            return  # an unfinished value is read again only when twice as much of it is there
        place = self._skip(0)
        while place < len(self._text):
            if self._state in _VALUES:
                found, after = self._value(place)
                if after < 0:
                    break
                place = self._skip(after)
                if found is not _NOTHING:
                    yield found
            else:
                place = self._skip(self._sign(place))
        self._text = self._text[place:]
        self._again_at = 2 * len(self._text) if len(self._text) > MAX_WHOLE else 0
        if len(self._text) > MAX_REQUEST:
            raise InvalidParamsError("requests", f"one is over {MAX_REQUEST:,} characters")

    def _skip(self, place: int) -> int:
        found = _SPACE.match(self._text, place)
        return found.end() if found else place

    def _sign(self, place: int) -> int:
        """Take one sign between values; return the place behind it."""
        sign, state = self._text[place], self._state
        to = _MOVES.get((state, sign))
        if to is None:
            allowed = {"start": "an object, the batch", "end": "nothing more"}.get(state, "JSON")
            raise InvalidParamsError("", f"given {sign!r}; allowed: {allowed}")
        self._state = to
        return place + 1

    def _value(self, place: int) -> tuple[object, int]:
        """Take a value; return it if it is a request, and its end; -1: it is not whole."""
        sign, state = self._text[place], self._state
        if (state == "first" and sign == "]") or (state == "key" and sign == "}" and not self._key):
            self._state = "next" if state == "first" else "end"
            return _NOTHING, place + 1
        if state == "value" and self._key == "requests":
            if sign != "[":
                raise InvalidParamsError("requests", f"given {sign}...; allowed: a list")
            if self.begun:
                raise InvalidParamsError("requests", "given twice; allowed: one list")
            self.begun, self._state = True, "first"
            return _NOTHING, place + 1
        value, after = self._whole(place)
        if after < 0:
            return _NOTHING, after
        if state == "key":
            if not isinstance(value, str):
                raise InvalidParamsError("", f"given {sign!r}; allowed: a field's name in quotes")
            self._key, self._state = value, "colon"
        elif state == "value":
            self.fields[self._key], self._state = value, "next"
        else:
            self._state = "after"
            return value, after
        return _NOTHING, after

    def _whole(self, place: int) -> tuple[object, int]:
        """Decode one value; -1 as its end: it is not whole yet.

        A number or a word at the end of the text may go on.
        """
        text = self._text
        opened = text[place] in '{["'
        bare = _LITERAL.match(text, place)
        if not opened and not self._last and bare is not None and bare.end() == len(text):
            return None, -1
        try:
            found: tuple[object, int] = _decode(text, place)
        except RecursionError:
            raise InvalidParamsError("", "nested too deep") from None
        except ValueError as error:
            if self._last or not opened:
                known = isinstance(error, json.JSONDecodeError)
                problem = str(error) if known else "a number has too many digits"
                raise InvalidParamsError("", f"not JSON: {problem}") from None
            return None, -1
        return found
