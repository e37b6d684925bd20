"""The result of a call (Reply or Broken) and what it means for the job (an Outcome).

All are values: the client does not raise for anything that an endpoint or a network does.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import msgspec

from nightmill.records.result import ErrorInfo, Usage

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

# What decoding JSON from an endpoint may raise. Nesting too deep is a RecursionError.
NOT_JSON: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

# Why there is no whole answer. It is stored as the attempt's error type. `input_cut`: max_tokens
# ended the answer inside a tool's input.
BreakKind: TypeAlias = Literal[
    "connection_error",
    "connection_dropped",
    "timeout",
    "truncated_response",
    "invalid_response",
    "input_cut",
]


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


class Succeeded(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoint answered with a complete Message."""

    message: bytes
    """The Message as JSON on one line."""
    usage: Usage
    model: str
    stop_reason: str | None = None
    status: int = 200
    request_id: str | None = None


class Unsuccessful(msgspec.Struct, frozen=True, kw_only=True):
    """The base of the four other outcomes."""

    error: ErrorInfo
    status: int | None = None
    """The HTTP status, None when no answer began."""
    request_id: str | None = None
    retry_after_s: float | None = None
    """The wait that the endpoint asks for, 0 to 900 seconds, None without a usable one."""


class Retry(Unsuccessful, frozen=True, kw_only=True):
    """The attempt failed and counts. The same call may succeed later."""


class Snooze(Unsuccessful, frozen=True, kw_only=True):
    """A rate limit refused the call for now. The attempt does not count."""


class Fail(Unsuccessful, frozen=True, kw_only=True):
    """The request is wrong and a retry would repeat that. `error.fix` says what to change."""


class StopAccount(Unsuccessful, frozen=True, kw_only=True):
    """The account or the address is wrong, not the job. `error.fix` says what to do."""


Outcome: TypeAlias = Succeeded | Retry | Snooze | Fail | StopAccount
