"""Check one request: fill in the defaults, encode it, apply the contract.

Most requests of a batch are plain text. msgspec recognises those in one pass. All others go through
the rules, which accept the request or name the fault.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

import msgspec
from msgspec import UNSET, Meta

from nightmill.errors import InvalidParamsError, PayloadTooLargeError
from nightmill.params.files import MARK, require_placed
from nightmill.params.preflight import Preflight, examine, limits_sampling
from nightmill.params.refusal import MAX_DEPTH, dotted, refused, require_json
from nightmill.params.rules import KNOWN, require_request, unknown_field
from nightmill.records.api import NO_API, Api
from nightmill.records.bounds import MAX_INT

BOTH_SAMPLERS: Final = "temperature and top_p are both given; the endpoint advises only one"


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """Values for requests that do not give them, and the size limit."""

    model: str
    max_tokens: int
    """At least 1."""
    max_payload_bytes: int
    """Longest request as JSON, bytes."""
    allow_unknown: bool = True
    """Whether a field that is not known here is sent, with a warning. False: it is refused."""
    api: Api = NO_API
    """The version of jobs that name none, and betas of all jobs."""
    preflight: Preflight | None = None
    """The endpoint whose refusals are found before a job is enqueued; None: they are not."""

    def unexamined(self) -> Self:
        """Return these without the preflight: for requests that were enqueued before."""
        return msgspec.structs.replace(self, preflight=None)


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """A request that passed the check."""

    body: bytes
    """The compact JSON to send: the fields in the given order, then the defaults."""
    model: str
    warnings: tuple[str, ...] = ()
    """Notes for a person; the request is sent all the same."""


_Text = Annotated[str, Meta(min_length=1)]
_Share = Annotated[float, Meta(ge=0, le=1)]


class _PlainMessage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    role: Literal["user", "assistant"]
    content: _Text


class _Plain(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The common case. It accepts nothing that the rules refuse; a test compares the two."""

    model: _Text
    messages: Annotated[list[_PlainMessage], Meta(min_length=1)]
    max_tokens: Annotated[int, Meta(ge=1, le=MAX_INT)]
    system: str = ""
    stream: bool = False
    temperature: _Share | msgspec.UnsetType = UNSET
    top_p: _Share | msgspec.UnsetType = UNSET
    stop_sequences: tuple[str, ...] = ()


STORED: Final = "$stored"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_decode_plain = msgspec.json.Decoder(_Plain).decode


def check(
    params: Mapping[str, object] | bytes | msgspec.Raw, defaults: Defaults, api: Api = NO_API
) -> Checked:
    """Check a request (a mapping, or JSON) against the contract and return what to send.

    The preflight follows, for the API version of `api`, else of the defaults. Raises
    InvalidParamsError naming the field, what was given and what is allowed, and
    PayloadTooLargeError when the body is over `defaults.max_payload_bytes`.
    """
    checked, plain = _checked(params, defaults)
    preflight = defaults.preflight
    if preflight is None:
        return checked
    version = (api or defaults.api).anthropic_version or preflight.version
    if plain is not None and _is_simple(plain, version):
        return checked
    found = examine(_decode(checked.body), version, provider=preflight.provider)
    if not found:
        return checked
    return msgspec.structs.replace(checked, warnings=(*checked.warnings, *found))


def _is_simple(plain: _Plain, version: str) -> bool:
    """Tell whether no rule of the preflight can find anything in a request, as in most."""
    if plain.messages[-1].role != "user":
        return False
    for message in plain.messages:
        if message.content.isspace():
            return False
    if plain.temperature is UNSET and plain.top_p is UNSET:
        return True
    return not limits_sampling(plain.model, version)


def _checked(
    params: Mapping[str, object] | bytes | msgspec.Raw, defaults: Defaults
) -> tuple[Checked, _Plain | None]:
    """Check a request against the contract; return what to send, and it decoded if it is plain."""
    given = decode(params) if isinstance(params, bytes | msgspec.Raw) else params
    if not isinstance(given, Mapping):
        raise refused("", given, "an object, the request")
    request = {**given}
    request.setdefault("model", defaults.model)
    request.setdefault("max_tokens", defaults.max_tokens)
    body = _faithful(request)
    _require_size(len(body), defaults.max_payload_bytes)
    warnings: tuple[str, ...] = ()
    plain = None
    try:
        plain = _decode_plain(body)
    except msgspec.ValidationError:
        decoded = _decode(body)
        require_request(decoded)
        if MARK in body:
            require_placed(decoded)
        warnings = _unknown(decoded, allowed=defaults.allow_unknown)
    if "temperature" in request and "top_p" in request:
        warnings = (BOTH_SAMPLERS, *warnings)
    return Checked(body=body, model=request["model"], warnings=warnings), plain


def recheck(body: bytes, defaults: Defaults) -> bytes:
    """Check a queued request against the contract and return what to send; raises as `check` does.

    Most were checked before they were enqueued and pass in one step. Others, of plain arq producers
    for example, are checked as new ones are.
    """
    try:
        _decode_plain(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _checked(body, defaults)[0].body
    _require_size(len(body), defaults.max_payload_bytes)
    return body


def decode(data: bytes | msgspec.Raw) -> object:
    """Decode JSON; raise InvalidParamsError, without a field, when it is not JSON.

    NaN, Infinity and lone surrogates are decoded: `check` then names the field they are in.
    """
    try:
        return _decode(data)
    except RecursionError:
        raise InvalidParamsError("", f"nested deeper than {MAX_DEPTH} levels") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _lenient(bytes(data), str(error))


def _lenient(data: bytes, problem: str) -> object:
    """Decode with the standard library, which accepts values that JSON forbids."""
    try:
        return json.loads(data.decode())
    except UnicodeDecodeError as error:
        found = f"byte 0x{data[error.start]:02x} at {error.start}"
        raise InvalidParamsError("", f"not UTF-8 ({found}); save it as UTF-8") from None
    except (ValueError, RecursionError):
        raise InvalidParamsError("", f"not JSON: {problem}") from None


def _faithful(request: dict[str, object]) -> bytes:
    """Encode `request`; refuse values that would change, such as NaN, which becomes null."""
    try:
        body = _encode(request)
        same = _decode(body) == request
    except (TypeError, ValueError, RecursionError) as error:
        require_json(request)
        raise InvalidParamsError("", f"cannot be written as JSON: {error}") from None
    # Only with that many brackets can it be nested too deep; the exact depth costs a full walk.
    if not same or body.count(b"{") + body.count(b"[") > MAX_DEPTH:
        require_json(request)
    return body


def _unknown(request: dict[str, object], *, allowed: bool) -> tuple[str, ...]:
    """Return a warning for each unknown field; raise InvalidParamsError unless it is `allowed`."""
    if STORED in request:  # nightmill's own, in place of a large request
        raise refused(STORED, request[STORED], "no such field")
    names = [name for name in request if name not in KNOWN]
    if names and not allowed:
        ways_out = f"--set {dotted((names[0],))}=null leaves it out, --allow-unknown sends it"
        raise InvalidParamsError(dotted((names[0],)), unknown_field(names[0], ways_out))
    return tuple(f"{dotted((name,))} is {unknown_field(name)}" for name in names)


def _require_size(size: int, limit: int) -> None:
    if size > limit:
        problem = (
            f"the request is {size:,} bytes; allowed: {limit:,}; shorten it or raise "
            "NIGHTMILL_MAX_PAYLOAD_BYTES (the endpoint's own ceiling is 32 MB)"
        )
        raise PayloadTooLargeError("", problem)
