"""Repairs JSON that a strict decoder refuses but whose meaning is clear. Pure, in linear time."""

from __future__ import annotations

import re
from typing import Final

BOM: Final = b"\xef\xbb\xbf"
MAX_BYTES: Final = 8 << 20
"""A larger text is not repaired."""
MAX_FIXES: Final = 20_000
"""Repairs of each kind in one text. They take about 20 ms together."""
MARK: Final = rb"\u0000"
"""Followed by the four digits of half a surrogate pair. No real text has these after a NUL."""

_HIGH: Final = rb"[dD][89abAB][0-9a-fA-F]{2}"
_LOW: Final = rb"[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF: Final = rb"[dD][89a-fA-F][0-9a-fA-F]{2}"

# In both patterns `good` takes as much as possible at once, so that only faults cost a call each.
# Groups are atomic and not possessive: before 3.11.4, `(...)++` keeps a part of what did not match.
# An atomic group remembers each repeat until its end, so that 2,000 of them bound the memory.
_ESCAPES: Final = re.compile(
    rb"(?P<good>(?>(?:[^\\]++"
    rb'|\\["\\/bfnrt]'
    rb"|\\u(?![dD][89a-fA-F])[0-9a-fA-F]{4}"
    rb"|\\u" + _HIGH + rb"\\u" + _LOW + rb"){1,2000}))"
    rb"|\\u(?P<half>" + _HALF + rb")"
    rb"|\\"
)
_TOKENS: Final = re.compile(
    rb'(?P<good>(?>(?:[^"NIni\-]++'
    rb"|null|-(?=[0-9])"
    rb'|"[^"\\\x00-\x1f]*+(?>(?:\\[^\x00-\x1f][^"\\\x00-\x1f]*+)*)"){1,2000}))'
    rb"|(?P<constant>-?(?:NaN|Infinity|nan|inf)\b)"
    rb'|(?P<string>"[^"\\]*+(?>(?:\\.[^"\\]*+)*)(?:"|\\?\Z))'
    rb"|.",
    re.DOTALL,
)
_CONTROL: Final = re.compile(rb"[\x00-\x1f]")
_MARKS: Final = re.compile(
    rb"\\u0000(?P<high>" + _HIGH + rb")\\u0000(?P<low>" + _LOW + rb")|\\u0000" + _HALF
)


def repaired(text: bytes, *, mark_halves: bool = False) -> bytes:
    """Return `text` as JSON that a strict decoder takes, if only these are wrong with it.

    A byte order mark is removed. NaN and Infinity become null. Half of a surrogate pair and bytes
    that are not UTF-8 become U+FFFD. A control character in a string and a backslash that begins no
    escape are escaped. A text above MAX_BYTES is returned as it is.

    With `mark_halves`, half of a pair becomes a mark instead: the other half may be in the next
    text. `without_marks` turns the marks of the joined texts into characters.
    """
    if len(text) > MAX_BYTES:
        return text
    text = text.removeprefix(BOM).strip()
    if not text.isascii():
        text = text.decode(errors="replace").encode()
    if b"\\" in text:
        text = _ESCAPES.sub(_mark if mark_halves else _escape, text, MAX_FIXES)
    return _TOKENS.sub(_token, text, MAX_FIXES)


def without_marks(text: bytes) -> bytes:
    """Return `text` with each pair of marks as a surrogate pair, and other marks as U+FFFD."""
    return _MARKS.sub(_unmarked, text)


def _escape(match: re.Match[bytes]) -> bytes:
    if match["good"]:
        return match[0]
    return rb"\ufffd" if match["half"] else rb"\\"


def _mark(match: re.Match[bytes]) -> bytes:
    return MARK + match["half"] if match["half"] else _escape(match)


def _unmarked(match: re.Match[bytes]) -> bytes:
    high, low = match["high"], match["low"]
    return rb"\u" + high + rb"\u" + low if low else rb"\ufffd"


def _token(match: re.Match[bytes]) -> bytes:
    if match["string"]:
        return _CONTROL.sub(_control, match[0])
    return b"null" if match["constant"] else match[0]


def _control(match: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % match[0][0]
