"""The acceptance of a batch: which answers are results, and what follows from the others.

A default acceptance is no text at all: batches without these options store and read nothing.
"""

from __future__ import annotations

import hashlib
import reprlib
from typing import Any, Final, Literal, TypedDict, Unpack, get_args

import msgspec

from nightmill.errors import InvalidAcceptanceError
from nightmill.records.bounds import MAX_INT, MAX_NAME_BYTES
from nightmill.records.message import is_null

OnTruncated = Literal["keep", "fail", "grow"]
OnPause = Literal["continue", "keep"]
Reask = Literal["turn", "same"]

MODEL: Final = "model:"
"""What `on_refusal` begins with when it names another model."""
MAX_RETRIES: Final = 20
"""The largest `check_retries`."""
MAX_PAUSES: Final = 10
"""How often an answer that pauses is continued."""
MAX_SCHEMA_BYTES: Final = 1 << 20
"""The largest schema, as JSON."""
_CHOICES: Final = {
    "on_truncated": get_args(OnTruncated),
    "on_pause": get_args(OnPause),
    "check_reask": get_args(Reask),
}


class Acceptance(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a batch accepts as a result. In Redis: JSON in its hash field `accept`."""

    on_truncated: OnTruncated = "keep"
    """An answer cut at max_tokens: keep it, fail, or call again with max_tokens doubled."""
    max_tokens_ceiling: int | None = None
    """The largest max_tokens that `grow` sends; it must be given with `grow`."""
    on_pause: OnPause = "continue"
    """An answer that pauses (pause_turn): continue it up to MAX_PAUSES times, or keep it."""
    on_refusal: str = "keep"
    """An answer that the model refused: `keep`, `fail`, or `model:NAME` for one call to NAME."""
    schema: msgspec.Raw | None = None
    """The JSON Schema that the output must fit."""
    schema_tool: str | None = None
    """The tool whose input is the output; None takes the text."""
    check: str | None = None
    """The name of a function in the workers' setting CHECKS."""
    check_retries: int = 2
    """How often a job is asked again whose output did not pass, 0 to MAX_RETRIES."""
    check_reask: Reask = "turn"
    """Ask again with the error as a further turn, or with the same request."""
    structured: bool = False
    """Whether the request carries the schema, so that the endpoint holds to it."""

    def __post_init__(self) -> None:
        """Raise InvalidAcceptanceError that names the field, what was given and is allowed."""
        for name, allowed in _CHOICES.items():
            given = getattr(self, name)
            _require(name, given in allowed, given, f"{', '.join(allowed[:-1])} or {allowed[-1]}")
        to = self.on_refusal
        fits = _is_name(to) and (to in {"keep", "fail"} or (to.startswith(MODEL) and to != MODEL))
        _require("on_refusal", fits, to, "keep, fail or model:NAME")
        for name in ("check", "schema_tool"):
            text = getattr(self, name)
            allowed_name = f"a name of 1 to {MAX_NAME_BYTES} bytes"
            _require(name, text is None or _is_name(text), text, allowed_name)
        ceiling, retries = self.max_tokens_ceiling, self.check_retries
        fits = ceiling is None or _is_within(ceiling, 1, MAX_INT)
        _require("max_tokens_ceiling", fits, ceiling, "an integer, 1 or more")
        fits = _is_within(retries, 0, MAX_RETRIES)
        _require("check_retries", fits, retries, f"an integer, 0 to {MAX_RETRIES}")
        _require("structured", isinstance(self.structured, bool), self.structured, "true or false")
        self._require_needed()

    def _require_needed(self) -> None:
        """Refuse fields that need another one, and a schema that is too large."""
        if self.on_truncated == "grow" and self.max_tokens_ceiling is None:
            raise InvalidAcceptanceError(
                "max_tokens_ceiling: missing; on_truncated grow needs the largest max_tokens"
            )
        if self.schema is None:
            if self.schema_tool is not None or self.structured:
                name = "structured" if self.structured else "schema_tool"
                raise InvalidAcceptanceError(f"{name}: needs a schema; give one, or leave it out")
        elif (size := len(bytes(self.schema))) > MAX_SCHEMA_BYTES:
            raise InvalidAcceptanceError(
                f"schema: {size:,} bytes; allowed: {MAX_SCHEMA_BYTES:,}; make it smaller"
            )

    @property
    def other_model(self) -> str | None:
        """The model that is called when the first one refuses; None for no other."""
        return self.on_refusal.removeprefix(MODEL) if self.on_refusal.startswith(MODEL) else None

    @property
    def checks_output(self) -> bool:
        """Whether an output must pass a schema or a check."""
        return self.schema is not None or self.check is not None


class Accepted(TypedDict, total=False):
    """Keywords of `Batch.accept`, asyncio or not; a `schema` is a JSON Schema. See Acceptance."""

    on_truncated: OnTruncated
    max_tokens_ceiling: int | None
    on_pause: OnPause
    on_refusal: str
    schema: object
    schema_tool: str | None
    check: str | None
    check_retries: int
    check_reask: Reask
    structured: bool


def acceptance(**given: Unpack[Accepted]) -> Acceptance:
    """Return the acceptance that keywords stand for. Raises InvalidAcceptanceError."""
    fields: dict[str, Any] = dict(given)
    known = Acceptance.__struct_fields__
    for name in fields:
        if name not in known:
            allowed = ", ".join(known)
            raise InvalidAcceptanceError(f"{_short.repr(name)}: not known; allowed: {allowed}")
    schema = fields.get("schema")
    if schema is not None and not isinstance(schema, msgspec.Raw):
        try:
            fields["schema"] = msgspec.Raw(_encode(schema))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidAcceptanceError(
                f"schema: not JSON ({error}); give a JSON Schema"
            ) from None
    return Acceptance(**fields)


def changed(before: Acceptance, given: Accepted) -> Acceptance:
    """Return `before` with what is given replaced. Raises InvalidAcceptanceError."""
    fields: dict[str, Any] = {**msgspec.structs.asdict(before), **given}
    return acceptance(**fields)


def id_of(text: str) -> str:
    """Return 16 hex digits that change with the text of an acceptance: its `accept_id` in Redis."""
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def to_text(accept: Acceptance) -> str | None:
    """Return an acceptance as JSON, None for the default one."""
    return None if accept == DEFAULT else _encode(accept).decode()


def from_text(text: bytes | str | msgspec.Raw | None) -> Acceptance:
    """Read what `to_text` wrote. Raises InvalidAcceptanceError that names a field."""
    if text is None or text in ("", b"") or (isinstance(text, msgspec.Raw) and is_null(text)):
        return DEFAULT
    try:
        fields: dict[str, Any] = {
            name: value if name == "schema" else msgspec.json.decode(value)
            for name, value in _fields(text).items()
            if bytes(value).strip() != b"null" or name != "schema"
        }
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidAcceptanceError(f"accept: {error}; allowed: a JSON object") from None
    return acceptance(**fields)


_encode = msgspec.json.Encoder().encode
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_short: Final = reprlib.Repr()
_short.maxstring = _short.maxother = 60


def _is_name(text: object) -> bool:
    return isinstance(text, str) and 0 < len(text.encode(errors="replace")) <= MAX_NAME_BYTES


def _is_within(number: object, least: int, most: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and least <= number <= most


def _require(field: str, fits: object, value: object, allowed: str) -> None:
    if not fits:
        raise InvalidAcceptanceError(f"{field}: given {_short.repr(value)}; allowed: {allowed}")


DEFAULT: Final = Acceptance()
