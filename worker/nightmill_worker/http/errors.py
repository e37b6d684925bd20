"""Why a call has no whole answer."""

from __future__ import annotations

from typing import Literal, TypeAlias

from nightmill.errors import NightmillError

HttpErrorKind: TypeAlias = Literal[
    "connection_error", "connection_dropped", "truncated_response", "invalid_response"
]
"""No connection was made; it ended before an answer began; inside one; this is no HTTP."""


class HttpError(NightmillError):
    """There is no answer, or not the whole of one. Its text holds addresses, but no headers."""

    def __init__(self, kind: HttpErrorKind, message: str) -> None:
        """Take the kind and the error's text."""
        super().__init__(message)
        self.kind: HttpErrorKind = kind


class ProxyRefusedError(NightmillError):
    """The proxy opened no tunnel to the endpoint."""

    def __init__(self, status: int, reason: str, headers: dict[str, str]) -> None:
        """Take the status, the reason and the headers of the proxy's answer."""
        super().__init__(f"{status} {reason}".rstrip())
        self.status, self.headers = status, headers
