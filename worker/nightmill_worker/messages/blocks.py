"""One content block of a streamed Message. Its values stay JSON text, which is not decoded."""

from __future__ import annotations

import re
from itertools import islice
from typing import Final, TypeAlias

import msgspec

from nightmill_worker.messages.outcome import NOT_JSON, PARTIAL_BYTES
from nightmill_worker.messages.repair import repaired, without_marks
from nightmill_worker.messages.text import beginning

Fields: TypeAlias = dict[str, msgspec.Raw]

MAX_FIELDS: Final = 100_000
"""Fields of one stream or object that are kept as JSON values. Each takes about 200 bytes."""
LARGE: Final = 1 << 20
"""Bytes of JSON above which its fields are counted before it is decoded."""
QUOTE: Final = b'"'
NULL: Final = msgspec.Raw(b"null")
ESCAPE_BYTES: Final = 12
"""Bytes of the longest escape, a surrogate pair."""

# The block that a delta without content_block_start belongs to, by the delta's type. That of a
# tool's input has a name that only its content_block_start knows.
IMPLIED: Final = {
    b'"text_delta"': {"type": msgspec.Raw(b'"text"'), "text": msgspec.Raw(b'""')},
    b'"citations_delta"': {"type": msgspec.Raw(b'"text"'), "text": msgspec.Raw(b'""')},
    b'"thinking_delta"': {"type": msgspec.Raw(b'"thinking"'), "thinking": msgspec.Raw(b'""')},
    b'"signature_delta"': {"type": msgspec.Raw(b'"thinking"'), "thinking": msgspec.Raw(b'""')},
}


_KEY: Final = re.compile(rb'"(?>(?:[^"\\]++|\\.)*)"\s*+:', re.DOTALL)


class _Object(msgspec.Struct):
    """Any JSON object: all its fields are skipped."""


decode_fields: Final = msgspec.json.Decoder(Fields).decode
_require_object: Final = msgspec.json.Decoder(_Object).decode
_decode_text: Final = msgspec.json.Decoder(str).decode


def has_many_fields(text: bytes) -> bool:
    """Return whether large JSON has more than MAX_FIELDS fields, which take 20 times its size."""
    if len(text) <= LARGE:
        return False
    return next(islice(_KEY.finditer(text), MAX_FIELDS, None), None) is not None


class Block:
    """One content block that is still growing."""

    __slots__ = ("_citations", "_input", "_texts", "fields")

    def __init__(self, fields: Fields) -> None:
        """Take the block of content_block_start."""
        self.fields = fields
        self._texts: dict[str, bytearray] = {}  # JSON strings without their quotes
        self._input = bytearray()  # the same
        self._citations = bytearray()  # JSON values, separated by commas

    def add(self, delta: Fields) -> int:
        """Take the `delta` of one content_block_delta. Return how many fields are new."""
        new = 0
        kind = bytes(delta.pop("type", NULL))
        if kind == b'"input_json_delta"':
            self._input += _content(delta.get("partial_json", NULL))
        elif kind == b'"citations_delta"':
            self._citations += b"," + bytes(delta.get("citation", NULL))
        else:
            for name, value in delta.items():
                text = bytes(value)
                if text.startswith(QUOTE):
                    new += name not in self._texts
                    self.append(name, text)
                elif text != b"null":  # a null adds nothing
                    new += name not in self.fields
                    self.fields[name] = value
        return new

    def append(self, name: str, text: bytes) -> None:
        """Append a JSON string to the text of the field `name`."""
        found = self._texts.get(name)
        if found is None:
            found = self._texts[name] = bytearray(_content(self.fields.get(name, NULL)))
        found += text[1:-1]

    def append_input(self, text: bytes) -> None:
        """Append a JSON string, which is a piece of the tool's input."""
        self._input += text[1:-1]

    def finish(self, *, marked: bool) -> Fields:
        """Return the whole block, once. Raises DecodeError for a tool's input that is not JSON.

        With `marked`, its texts may hold marks for halves of surrogate pairs.
        """
        for name in list(self._texts):
            text = self._texts.pop(name)  # at once: a long text must not be in memory twice
            self.fields[name] = msgspec.Raw(_quoted(text, marked=marked))
        if self._citations:
            before = bytes(self.fields.get("citations", NULL))
            first = before[1:-1].strip() if before.startswith(b"[") else b""
            added = bytes(self._citations)
            self.fields["citations"] = msgspec.Raw(b"[%b]" % (first + added).removeprefix(b","))
        if self._input:
            self.fields["input"] = msgspec.Raw(_object(_quoted(self._input, marked=marked)))
        return self.fields

    def partial(self) -> str:
        """Return the beginning of the block's text, or of the tool's input."""
        texts = (*self._texts.values(), self._input)
        return "".join(_beginning(text) for text in texts if text)


def _quoted(text: bytearray, *, marked: bool) -> bytes:
    quoted = b"".join((QUOTE, text, QUOTE))
    return without_marks(quoted) if marked else quoted


def _content(value: msgspec.Raw) -> bytes:
    """Return a JSON string without its quotes, b"" for any other value."""
    text = bytes(value)
    return text[1:-1] if text.startswith(QUOTE) else b""


def _object(quoted: bytes) -> bytes:
    """Return the JSON object that a JSON string holds. Raises DecodeError without one."""
    try:
        text = _decode_text(quoted).encode()
    except NOT_JSON:
        text = _decode_text(repaired(quoted)).encode()
    try:
        _require_object(text)
    except NOT_JSON:
        text = repaired(text)
        _require_object(text)
    return text


def _beginning(quoted: bytearray) -> str:
    """Return the beginning of a JSON string as text. `quoted` has no quotes."""
    text = bytes(quoted[:PARTIAL_BYTES])
    for cut in range(ESCAPE_BYTES):
        try:
            return _decode_text(b'"%b"' % text[: len(text) - cut])
        except NOT_JSON:
            continue
    return beginning(text, PARTIAL_BYTES)
