"""The Message of a job that succeeded: a dict, and beside it the JSON that it was read from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

import msgspec

from nightmill.errors import AnswerNotJSONError
from nightmill.records.bounds import without_surrogates

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

NULL: Final = msgspec.Raw(b"null")
"""The default of fields that are JSON: msgspec reads no field that is Raw or None."""
_MAX_DIGITS: Final = 300
"""Integers with fewer digits are kept as they are."""
_SHOWN: Final = 60
"""Characters of a text that an error shows."""


def is_null(data: msgspec.Raw) -> bool:
    """Tell whether JSON is null."""
    return data is NULL or bytes(data).strip() == b"null"


class Message(dict[str, Any]):
    """The endpoint's Message: a dict that any web framework or JSON encoder takes as it is.

    `raw` and `bytes(message)` are the JSON as the endpoint sent it; a change of the dict does not
    change them. A message that is no JSON object is an empty dict, with its bytes in `raw`.
    """

    __slots__ = ("raw",)

    raw: msgspec.Raw

    def __init__(self, given: bytes | str | msgspec.Raw | Mapping[str, Any] = b"{}") -> None:
        """Read the JSON of a Message, or take one as a mapping. Raises nothing for bad JSON."""
        if isinstance(given, bytes | str | msgspec.Raw):
            self.raw = given if isinstance(given, msgspec.Raw) else msgspec.Raw(given)
            super().__init__(_fields(self.raw))
        else:
            super().__init__(given)
            self.raw = msgspec.Raw(msgspec.json.encode(given))

    @property
    def text(self) -> str:
        """The text blocks of the content, joined; "" when there are none."""
        content = self.get("content")
        blocks = content if isinstance(content, list) else [content]
        return "".join(map(_text_of_block, blocks))

    def json(self) -> Any:  # noqa: ANN401 - any JSON value
        """Return the text read as JSON.

        Raises AnswerNotJSONError (a ValueError) that says where the text is no JSON, and why the
        model stopped.
        """
        text = self.text
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise AnswerNotJSONError(_not_json(text, error, self.get("stop_reason"))) from None

    def __bytes__(self) -> bytes:
        """Return the JSON as the endpoint sent it."""
        return bytes(self.raw)

    def __eq__(self, other: object) -> bool:
        """Compare as a dict; with msgspec.Raw, which this field was before, compare the bytes."""
        return self.raw == other if isinstance(other, msgspec.Raw) else dict.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        """Tell whether they differ: a dict has an `__ne__` of its own."""
        return not self == other

    __hash__ = None  # as of every dict

    def __reduce__(self) -> tuple[Callable[..., Message], tuple[dict[str, Any], bytes]]:
        """Make copies and pickles with the JSON beside."""
        return _with_raw, (dict(self), bytes(self.raw))

    @classmethod
    def __get_pydantic_core_schema__(
        cls, _source: object, _handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Be a JSON object in pydantic's models, and in the responses of FastAPI."""
        from pydantic_core import core_schema as schema  # noqa: PLC0415 - only where it is used

        return schema.no_info_wrap_validator_function(
            lambda given, check: given if isinstance(given, cls) else cls(check(given)),
            schema.dict_schema(keys_schema=schema.str_schema()),
        )


def _with_raw(fields: dict[str, Any], raw: bytes) -> Message:
    message = Message()
    message.update(fields)
    message.raw = msgspec.Raw(raw)
    return message


_decode = msgspec.json.Decoder(dict[str, Any]).decode


def _fields(data: msgspec.Raw) -> dict[str, Any]:
    """Return the fields of a JSON object, {} for what is none."""
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return _decode(repaired(bytes(data)) or b"{}")
    except (msgspec.MsgspecError, RecursionError):
        return {}


def repaired(data: bytes) -> bytes | None:
    """Return JSON that msgspec refuses as JSON that it reads; None for what is no JSON.

    NaN and numbers out of range become null, half a surrogate pair U+FFFD.
    """
    text = data.decode(errors="replace")
    try:
        read = json.loads(text, parse_constant=_null, parse_float=_finite, parse_int=_integer)
        return without_surrogates(json.dumps(read, ensure_ascii=False)).encode()
    except (ValueError, RecursionError):
        return None


def _null(_: str) -> None:
    """Read NaN and Infinity as null."""


def _finite(number: str) -> float | None:
    value = float(number)
    return value if isfinite(value) else None


def _integer(digits: str) -> int | float | None:
    """Read an integer of any length: int() refuses one of over 4,300 digits."""
    return int(digits) if len(digits) < _MAX_DIGITS else _finite(digits)


def _text_of_block(block: object) -> str:
    match block:
        case {"type": "text", "text": str(text)} | str(text):
            return without_surrogates(text)
        case _:
            return ""


def _not_json(text: str, error: Exception, stop_reason: object) -> str:
    """Return why `text` is no JSON, and what to do."""
    if not text.strip():
        return f"the answer has no text to read as JSON (stop reason: {stop_reason})"
    where, fix = f"{error}", "ask for JSON alone"
    if stop_reason == "max_tokens":
        fix = "the answer was cut at max_tokens: give it more"
    elif text.lstrip().startswith("```"):
        fix = "it stands in a code fence (```): ask for JSON without one"
    shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
    return f"the text of the answer is not JSON: {where}; it begins {shown!r}; {fix}"
