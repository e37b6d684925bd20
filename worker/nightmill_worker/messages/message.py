"""Reads the Message of a 2xx answer. Odd values in fields that nothing depends on are accepted."""

from __future__ import annotations

import codecs
import math
from collections.abc import Callable
from typing import Annotated, Final, Literal

import msgspec

from nightmill.pricing.rules import billed_as
from nightmill.records.result import TOKENS, Usage
from nightmill_worker.messages.blocks import NULL, decode_fields, has_many_fields
from nightmill_worker.messages.outcome import NOT_JSON, Succeeded
from nightmill_worker.messages.repair import repaired
from nightmill_worker.messages.text import clean

MAX_INT: Final = (1 << 63) - 1
"""The largest number that a store's columns take."""
MAX_DIGITS: Final = 400
"""Bytes of a number. The largest float has 309 digits."""
SLICE: Final = 1 << 20
"""Bytes of a body whose UTF-8 is checked at once: as text they may take four times the memory."""

LIST: Final = ord("[")
_COMPACTION: Final = "compaction"

_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_INT)]


class _Writes(msgspec.Struct):
    """The cache writes by their life. Those that are not named here are kept for 5 min."""

    ephemeral_1h_input_tokens: _Count | None = None


class _ServerTools(msgspec.Struct):
    web_search_requests: _Count | None = None


class _Iteration(msgspec.Struct):
    """One of the endpoint's own calls of the model within one answer."""

    type: str = ""
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    cache_read_input_tokens: _Count | None = None
    cache_creation_input_tokens: _Count | None = None


class _Tokens(msgspec.Struct):
    """A Message's `usage`. The API sends null for caches that were not used."""

    input_tokens: _Count
    output_tokens: _Count
    cache_read_input_tokens: _Count | None = None
    cache_creation_input_tokens: _Count | None = None
    cache_creation: _Writes | None = None
    server_tool_use: _ServerTools | None = None
    inference_geo: str | None = None
    speed: str | None = None
    service_tier: str | None = None
    iterations: list[_Iteration] | None = None


class _Message(msgspec.Struct):
    """The fields of a Message that are read here. The content stays bytes."""

    type: Literal["message"]
    content: msgspec.Raw
    usage: _Tokens
    model: str = ""
    stop_reason: str | None = None


class _LooseTokens(msgspec.Struct):
    """The same `usage` with values of any type."""

    input_tokens: msgspec.Raw = NULL
    output_tokens: msgspec.Raw = NULL
    cache_read_input_tokens: msgspec.Raw = NULL
    cache_creation_input_tokens: msgspec.Raw = NULL
    cache_creation: msgspec.Raw = NULL
    server_tool_use: msgspec.Raw = NULL
    inference_geo: msgspec.Raw = NULL
    speed: msgspec.Raw = NULL
    service_tier: msgspec.Raw = NULL
    iterations: msgspec.Raw = NULL


class _LooseMessage(msgspec.Struct):
    """The same Message. Only its type and its content are needed."""

    type: Literal["message"]
    content: msgspec.Raw
    usage: msgspec.Raw = NULL
    model: msgspec.Raw = NULL
    stop_reason: msgspec.Raw = NULL


_decode = msgspec.json.Decoder(_Message).decode
_decode_loose = msgspec.json.Decoder(_LooseMessage).decode
_decode_iterations: Final[Callable[[bytes], list[_Iteration] | None]] = msgspec.json.Decoder(
    list[_Iteration] | None
).decode
_decode_tokens = msgspec.json.Decoder(_LooseTokens).decode


def read_message(body: bytes, status: int, request_id: str | None) -> Succeeded:
    """Return the outcome of a Message. Raises one of NOT_JSON when `body` is not a whole one."""
    try:
        found = _decode(body)
        if memoryview(found.content)[0] != LIST:
            return _loose(body, status, request_id)
        _require_utf8(body)
    except NOT_JSON:
        return _loose(repaired(body), status, request_id)
    return Succeeded(
        message=_one_line(body),
        usage=_billed(found.usage),
        model=clean(found.model),
        stop_reason=found.stop_reason and clean(found.stop_reason),
        status=status,
        request_id=request_id,
    )


def _billed(tokens: _Tokens) -> Usage:
    """Return what an answer is billed for: its own tokens and those of a compaction in it."""
    written, tools = tokens.cache_creation, tokens.server_tool_use
    write = tokens.cache_creation_input_tokens or 0
    usage = Usage(
        input_tokens=tokens.input_tokens,
        output_tokens=tokens.output_tokens,
        cache_read_input_tokens=tokens.cache_read_input_tokens or 0,
        cache_creation_input_tokens=write,
        cache_creation_1h_input_tokens=min(write, written.ephemeral_1h_input_tokens or 0)
        if written
        else 0,
        web_search_requests=(tools.web_search_requests or 0) if tools else 0,
        billed_as=billed_as(tokens.inference_geo, tokens.speed, tokens.service_tier),
    )
    return _with_compactions(usage, tokens.iterations) if tokens.iterations else usage


def _with_compactions(usage: Usage, iterations: list[_Iteration]) -> Usage:
    """Add the tokens of compactions: the counts of the answer itself leave them out."""
    for each in iterations:
        if each.type == _COMPACTION:
            counts = {name: getattr(each, name) or 0 for name in TOKENS}
            usage += msgspec.structs.replace(Usage(), **counts)
    largest = {name: min(getattr(usage, name), MAX_INT) for name in TOKENS}
    return msgspec.structs.replace(usage, **largest)


def _loose(body: bytes, status: int, request_id: str | None) -> Succeeded:
    found = _decode_loose(body)
    _require_utf8(body)
    usage, unknown = _usage(found.usage)
    return Succeeded(
        message=_one_line(_with_list(body, bytes(memoryview(found.content)[:1]))),
        usage=usage,
        usage_unknown=unknown,
        model=_text(found.model) or "",
        stop_reason=_text(found.stop_reason),
        status=status,
        request_id=request_id,
    )


def _with_list(body: bytes, begins: bytes) -> bytes:
    """Return `body` with its content as a list of blocks, which readers of results expect.

    A refusal may have null as its content, and some gateways send a string.
    """
    if begins == b"[":
        return body
    if begins not in (b"n", b'"') or has_many_fields(body):
        raise msgspec.ValidationError("`content` is not a list")
    fields = decode_fields(body)
    block = {"type": "text", "text": fields["content"]}
    fields["content"] = msgspec.Raw(msgspec.json.encode([block] if begins == b'"' else []))
    return msgspec.json.encode(fields)


def tokens_in(usage: bytes) -> Usage:
    """Return the tokens in a `usage` as JSON; 0 for what it does not say."""
    return _usage(msgspec.Raw(usage))[0]


def _usage(value: msgspec.Raw) -> tuple[Usage, bool]:
    """Return the tokens billed, and whether input or output tokens are unknown."""
    try:
        tokens = _decode_tokens(value)
    except NOT_JSON:
        return Usage(), True
    counts = {name: _count(getattr(tokens, name)) for name in TOKENS}
    unknown = counts["input_tokens"] is None or counts["output_tokens"] is None
    found = _Tokens(
        input_tokens=counts["input_tokens"] or 0,
        output_tokens=counts["output_tokens"] or 0,
        cache_read_input_tokens=counts["cache_read_input_tokens"],
        cache_creation_input_tokens=counts["cache_creation_input_tokens"],
        cache_creation=_Writes(_count_in(tokens.cache_creation, "ephemeral_1h_input_tokens")),
        server_tool_use=_ServerTools(_count_in(tokens.server_tool_use, "web_search_requests")),
        inference_geo=_text(tokens.inference_geo),
        speed=_text(tokens.speed),
        service_tier=_text(tokens.service_tier),
        iterations=_iterations(tokens.iterations),
    )
    return _billed(found), unknown


def _count_in(value: msgspec.Raw, name: str) -> int | None:
    """Return a number in an object; None for anything else."""
    try:
        return _count(decode_fields(value).get(name, NULL))
    except NOT_JSON:
        return None


def _iterations(value: msgspec.Raw) -> list[_Iteration] | None:
    try:
        return _decode_iterations(value)
    except NOT_JSON:
        return None


def _count(value: msgspec.Raw) -> int | None:
    """Return a number of tokens, at most MAX_INT, None for anything that is not one."""
    text = bytes(value).strip(b'"')
    if not text or len(text) > MAX_DIGITS:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    if not 0 <= number < math.inf:
        return None
    return min(int(text) if text.isdigit() else int(number), MAX_INT)


def _text(value: msgspec.Raw) -> str | None:
    text = bytes(value)
    return clean(msgspec.json.decode(text, type=str)) if text.startswith(b'"') else None


def _one_line(body: bytes) -> bytes:
    """Return `body` on one line, because results are exported one on each line."""
    if b"\n" in body or b"\r" in body:
        return msgspec.json.format(body, indent=-1)
    return body


def _require_utf8(body: bytes) -> None:
    """Raise UnicodeDecodeError for what is not UTF-8: msgspec does not check the content."""
    if body.isascii():
        return
    if len(body) <= SLICE:
        body.decode()
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(body), SLICE):
        decoder.decode(body[start : start + SLICE])
    decoder.decode(b"", final=True)
