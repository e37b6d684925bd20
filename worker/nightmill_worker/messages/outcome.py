"""The result of a call (Reply or Broken) and what it means for the job (an Outcome).

All are values: the client does not raise for anything that an endpoint or a network does.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import msgspec

from nightmill.errors import NightmillError
from nightmill.records.result import ErrorInfo, Usage
from nightmill_worker.http.errors import HttpErrorKind

SUCCESS: Final = range(200, 300)
"""Statuses of a paid answer."""

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

# What decoding JSON from an endpoint may raise. Nesting too deep is a RecursionError.
NOT_JSON: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

PARTIAL_BYTES: Final = 64 << 10
"""The most that is kept of an answer that cannot be used."""

# Why there is no usable answer. It is stored as the attempt's error type. `input_cut`: max_tokens
# ended the answer inside a tool's input. `internal_error`: a defect of this program.
BreakKind: TypeAlias = Literal[
    HttpErrorKind,
    "timeout",
    "input_cut",
    "response_too_large",
    "internal_error",
]


class AnswerError(NightmillError):
    """An answer that cannot be used: it breaks the contract, is cut or is too large."""

    def __init__(self, kind: BreakKind, message: str) -> None:
        """Take the kind of break and the error's text."""
        super().__init__(message)
        self.kind: BreakKind = kind


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer."""

    status: int
    headers: Mapping[str, str] = NO_HEADERS
    """Looked up by lower-case names."""
    body: bytes = b""
    """The body as it came. For a stream: the Message built from it, or its error event's JSON.

    Empty for an error status whose body was cut: the status decides then.
    """


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """No whole answer."""

    kind: BreakKind
    detail: str
    """The error's text."""
    status: int | None = None
    """None when no answer began."""
    headers: Mapping[str, str] = NO_HEADERS
    partial: str = ""
    """The beginning of what was received: texts of a stream, else the body. See PARTIAL_BYTES."""
    usage: Usage = Usage()
    """Tokens that were reported before it broke off."""


class Succeeded(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoint answered with a complete Message."""

    message: bytes
    """The Message as JSON on one line."""
    usage: Usage
    usage_unknown: bool = False
    """Whether input or output tokens are not reported: `usage` has 0 for what is unknown."""
    model: str
    """As the endpoint names it, "" when it does not."""
    stop_reason: str | None = None
    status: int = 200
    request_id: str | None = None


class Unsuccessful(msgspec.Struct, frozen=True, kw_only=True):
    """The base of the other outcomes."""

    error: ErrorInfo
    status: int | None = None
    """The HTTP status, None when no answer began."""
    request_id: str | None = None
    retry_after_s: float | None = None
    """The wait that the endpoint asks for, 0 to 900 seconds, None without a usable one."""
    partial: str = ""
    """The beginning of what was received of a 2xx answer. See PARTIAL_BYTES."""
    usage: Usage = Usage()
    """Tokens that a 2xx answer reported before it broke off: they are paid for."""


class Retry(Unsuccessful, frozen=True, kw_only=True):
    """The attempt failed. The same call may succeed later."""

    away: bool = False
    """Whether the endpoint did no work: it was not reached, or was overloaded (503, 529)."""


class Snooze(Unsuccessful, frozen=True, kw_only=True):
    """A rate limit refused the call for now. The attempt does not count."""


class Fail(Unsuccessful, frozen=True, kw_only=True):
    """The request is wrong and a retry would repeat that. `error.fix` says what to change."""

    raw: bytes = b""
    """The body of a 2xx answer that a defect of this program kept from being understood.

    It is paid, so it is stored as it came and the call is not repeated.
    """


class StopAccount(Unsuccessful, frozen=True, kw_only=True):
    """The account or the address is wrong, not the job. `error.fix` says what to do."""


class Suspect(Unsuccessful, frozen=True, kw_only=True):
    """The account, the model or this one request is refused: only other calls show which.

    The job is given back, and other jobs of its lane are tried (see weigh.lua).
    """

    kind: str = ""
    """Refusals of the same kind are alike: the status, and the error's type where it has one."""
    words: str = ""
    """The words of its text, and nothing else, that say that the account has no money."""


Outcome: TypeAlias = Succeeded | Retry | Snooze | Fail | StopAccount | Suspect
