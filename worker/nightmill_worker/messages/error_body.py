"""Reads the error in a body: the Messages API's own shape and those of gateways and other vendors.

`{"error": {"type", "message", "code"}}`, `{"error": "text"}`, `{"message"}`, `{"detail"}`,
`{"errors": [..]}`, problem+json (`title`, `detail`), a list of these, an HTML page, or a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

import msgspec

from nightmill.records.error_types import STANDARD
from nightmill_worker.messages.blocks import NULL
from nightmill_worker.messages.outcome import NOT_JSON
from nightmill_worker.messages.page import page_words
from nightmill_worker.messages.repair import repaired
from nightmill_worker.messages.text import beginning, clean

TEXT_CHARS: Final = 200
"""Characters kept of an error that is not JSON."""
MESSAGE_CHARS: Final = 2_000
"""Characters kept of the message of an error that is JSON."""
DETAILS_BYTES: Final = 4_096
"""Longest `details` of an error that are read."""

STATUS_OF_TYPE: Final = STANDARD | {
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_exceeded": 429,
}
"""The status that belongs to an error type: the API's own types, and one that gateways use."""
TYPE_OF_STATUS: Final = {status: name for name, status in reversed(STATUS_OF_TYPE.items())}
STATUSES: Final = range(400, 600)
"""Numbers that a `code` may have to count as a status."""
NO_TYPES: Final = frozenset({"", "none", "null", "error"})
"""Texts in the place of a type that say nothing."""
TYPE: Final = re.compile(r"(?!\d+$)[^\s:]+")
"""A type is a name. An address, as in problem+json, a number or a sentence is none."""
NESTED: Final = 4
"""How deep an error is looked for in an error."""


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """What an error's body says."""

    type: str | None = None
    """Its type, or a text `code` in place of an unknown type."""
    message: str = ""
    code: str = ""
    status: int | None = None
    """The status that belongs to `type`, or a numeric `code`."""
    error_code: str = ""
    """The API's `details.error_code`."""

    @property
    def codes(self) -> tuple[str, ...]:
        """Its codes. An endpoint takes them from a list: unlike texts, they repeat no prompt."""
        return self.error_code, self.code, self.type or ""

    @property
    def texts(self) -> tuple[str, ...]:
        """Its codes and its message."""
        return *self.codes, self.message


class _Shape(msgspec.Struct):
    """The fields of all shapes; each may have any value."""

    error: msgspec.Raw = NULL
    errors: msgspec.Raw = NULL
    type: msgspec.Raw = NULL
    code: msgspec.Raw = NULL
    status: msgspec.Raw = NULL
    title: msgspec.Raw = NULL
    message: msgspec.Raw = NULL
    aws_message: msgspec.Raw = msgspec.field(default=NULL, name="Message")
    msg: msgspec.Raw = NULL
    detail: msgspec.Raw = NULL
    error_description: msgspec.Raw = NULL
    details: msgspec.Raw = NULL
    metadata: msgspec.Raw = NULL
    object: msgspec.Raw = NULL


class _Details(msgspec.Struct):
    """An error's `details`."""

    error_code: str = ""


class _Metadata(msgspec.Struct):
    """An error's `metadata`: a gateway puts the text of its upstream there."""

    raw: str = ""


_decode = msgspec.json.Decoder(_Shape).decode
_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_details = msgspec.json.Decoder(_Details).decode
_decode_metadata = msgspec.json.Decoder(_Metadata).decode


def error_in(body: bytes) -> ErrorBody | None:
    """Return the error of a 2xx body, None when it does not say that it is one."""
    shape = _shape(body)
    if shape is None:
        return None
    if shape.error == NULL and "error" not in (_text(shape.object), _text(shape.type)):
        found = _error(shape, 1)
        return found if found.status is not None and found.message else None
    return _error(shape, 1)


def error_of(body: bytes) -> ErrorBody:
    """Return the error of any body. Of a text that is not JSON, its beginning is the message."""
    shape = _shape(body)
    if shape is not None:
        found = _error(shape, 1)
        if found.message or shape.error != NULL:
            return found
    return ErrorBody(message=words_of(body))


def as_error(data: bytes) -> bytes:
    """Return the data of an error event as a body that says that it is an error."""
    if error_in(data) is not None:
        return data
    return msgspec.json.encode({"type": "error", "error": error_of(data).message})


def words_of(body: bytes) -> str:
    """Return the beginning of a body that is no error in JSON; of a page, what a person sees."""
    page = page_words(body, TEXT_CHARS)
    return beginning(body.strip(), TEXT_CHARS) if page is None else page


def _shape(body: bytes) -> _Shape | None:
    """Return the fields of a JSON object, or of the first object of a list; None for no JSON."""
    for text in (body, repaired(body)):
        try:
            if text.lstrip()[:1] == b"[":
                items = _decode_list(text)
                return _decode(items[0]) if items else None
            return _decode(text)
        except NOT_JSON:
            continue
    return None


def _error(shape: _Shape, depth: int) -> ErrorBody:
    inner = _inner(shape) if depth < NESTED else None
    if inner is not None:
        return _error(inner, depth + 1)
    kind, code = _text(shape.type), _text(shape.code) or _number(shape.code)
    if kind.lower() in NO_TYPES or not TYPE.fullmatch(kind):
        kind = ""
    named = _text(shape.code)
    if kind not in STATUS_OF_TYPE and TYPE.fullmatch(named) and named.lower() not in NO_TYPES:
        kind = named
    numbers = (code, _number(shape.status), _number(shape.error))
    status = STATUS_OF_TYPE.get(kind) or next(filter(None, map(_status, numbers)), None)
    return ErrorBody(
        type=clean(kind) or None,
        message=clean(_message(shape), MESSAGE_CHARS),
        code=clean(code or _text(shape.error)),
        status=status,
        error_code=_error_code(shape.details),
    )


def _inner(shape: _Shape) -> _Shape | None:
    """Return the object that holds the error, None when the shape itself does."""
    for value in (shape.error, shape.detail, shape.message, *_items(shape.errors)[:1]):
        if _first(value) == b"{":
            try:
                return _decode(value)
            except NOT_JSON:
                continue
    return None


def _message(shape: _Shape) -> str:
    """Return the texts of an error, the general one first."""
    given = shape.message, shape.aws_message, shape.msg, shape.error_description, shape.detail
    texts = [_text(shape.error), _text(shape.title), *map(_text, given)]
    entries = (*_items(shape.detail), *_items(shape.errors))
    texts.extend(_text(each) or _of_validation(each) for each in entries)
    with suppress(*NOT_JSON):
        texts.append(_decode_metadata(shape.metadata).raw)
    return ": ".join(dict.fromkeys(filter(None, texts)))


def _of_validation(value: msgspec.Raw) -> str:
    """Return one entry of a list of wrong fields: where, and what is wrong."""
    try:
        entry = msgspec.json.decode(value)
    except NOT_JSON:
        return ""
    if not isinstance(entry, dict):
        return ""
    where = entry.get("loc")
    place = ".".join(map(str, where)) if isinstance(where, Iterable) else ""
    what = entry.get("msg") or entry.get("message") or entry.get("detail") or ""
    return " ".join(filter(None, (place, str(what))))


def _items(value: msgspec.Raw) -> list[msgspec.Raw]:
    try:
        return _decode_list(value) if _first(value) == b"[" else []
    except NOT_JSON:
        return []


def _text(value: msgspec.Raw) -> str:
    """Return a JSON string as text, "" for any other value."""
    try:
        return msgspec.json.decode(value, type=str).strip() if _first(value) == b'"' else ""
    except NOT_JSON:
        return ""


def _first(value: msgspec.Raw) -> bytes:
    """Return the first byte of a value, which says what kind of JSON it is."""
    return bytes(memoryview(value)[:1])


def _number(value: msgspec.Raw) -> str:
    text = bytes(value).strip(b'"')
    return text.decode() if text.isdigit() and len(text) <= TEXT_CHARS else ""


def _status(number: str) -> int | None:
    if not number.isdecimal() or len(number) != len("429"):
        return None
    return int(number) if int(number) in STATUSES else None


def _error_code(details: msgspec.Raw) -> str:
    """Return `error_code` of an error's details, "" when there is none."""
    if not 0 < len(bytes(details)) <= DETAILS_BYTES:
        return ""
    try:
        return clean(_decode_details(details).error_code)
    except NOT_JSON:
        return ""
