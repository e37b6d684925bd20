"""What a call gave back (Reply or Broken), and what that means for its job (an Outcome).

All are values: the client never raises for what an endpoint or a network does.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

import msgspec

from nightmill.records.result import ErrorInfo, Usage

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})

# What decoding JSON that a stranger sent may raise (nesting too deep is a RecursionError).
NOT_JSON: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

# Why there is no whole answer; stored as the attempt's error type. `input_cut` is a stream whose
# tool input ends in the middle because max_tokens was reached.
BreakKind: TypeAlias = Literal[
    "connection_error",
    "connection_dropped",
    "timeout",
    "truncated_response",
    "invalid_response",
    "input_cut",
]


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer. `headers` is looked up by lower-case names.

    `body` is as it came; of a stream it is the Message rebuilt, or its error event's JSON. The body
    of an error status may be empty when it was cut: the status says enough.
    """

    status: int
    headers: Mapping[str, str] = NO_HEADERS
    body: bytes = b""


class Broken(msgspec.Struct, frozen=True, kw_only=True):
    """No whole answer. `status` and `headers` are there if the answer had begun."""

    kind: BreakKind
    detail: str
    status: int | None = None
    headers: Mapping[str, str] = NO_HEADERS


class Succeeded(msgspec.Struct, frozen=True, kw_only=True):
    """A complete Message came; `message` is its JSON on one line."""

    message: bytes
    usage: Usage
    model: str
    stop_reason: str | None = None
    status: int = 200
    request_id: str | None = None


class Unsuccessful(msgspec.Struct, frozen=True, kw_only=True):
    """What the four other outcomes share.

    `status` is the HTTP status (None when no answer began); `retry_after_s` is what the endpoint
    asked for, in seconds, 0 to 900, None when it did not or not intelligibly.
    """

    error: ErrorInfo
    status: int | None = None
    request_id: str | None = None
    retry_after_s: float | None = None


class Retry(Unsuccessful, frozen=True, kw_only=True):
    """The attempt failed and counts; the same call may succeed later."""


class Snooze(Unsuccessful, frozen=True, kw_only=True):
    """Refused for now by a rate limit; not counted."""


class Fail(Unsuccessful, frozen=True, kw_only=True):
    """The request is wrong and will stay so; `error.fix` says what to change."""


class StopAccount(Unsuccessful, frozen=True, kw_only=True):
    """The line is wrong (credential, credit, address), not the job; `error.fix` says what to do."""


Outcome: TypeAlias = Succeeded | Retry | Snooze | Fail | StopAccount
