"""Which calls are streamed although their request does not ask for it.

A call that is not streamed is silent until its answer is whole. READ_TIMEOUT_S and proxies cut a
silence that is too long, and the call is paid all the same. A stream is not silent.
"""

from __future__ import annotations

from typing import Final

import msgspec

from nightmill_worker.messages.blocks import decode_fields
from nightmill_worker.messages.outcome import NOT_JSON

TOKENS_PER_S: Final = 50
"""The speed of a slow model, for the estimate of a call's duration."""
STREAM_ABOVE_TOKENS: Final = 16_000
"""`max_tokens` above which a call is always streamed: proxies cut a connection so long silent."""
REFUSALS: Final = frozenset({400, 404, 405, 415, 422})
"""Statuses with which an endpoint may refuse to stream."""


class _Size(msgspec.Struct):
    """The fields of a request that decide whether its answer is streamed."""

    stream: bool | msgspec.UnsetType | None = msgspec.UNSET
    max_tokens: int = 0


_decode_size: Final = msgspec.json.Decoder(_Size).decode


class Streaming:
    """Decides for one endpoint which calls are streamed."""

    def __init__(self, read_timeout_s: float) -> None:
        """Take the longest silence of a call, seconds."""
        self.above = min(STREAM_ABOVE_TOKENS, int(TOKENS_PER_S * read_timeout_s / 2))
        """A call with more `max_tokens` is streamed: it may last half of the longest silence."""
        self.refused = False
        """Whether the endpoint refused a stream of a request that it answered unstreamed."""

    def is_long(self, params: bytes) -> bool:
        """Return whether a request is not streamed and its answer may take long."""
        try:
            size = _decode_size(params)
        except NOT_JSON:
            return False  # the endpoint explains the error
        return size.max_tokens > self.above and size.stream is not True


def streamed(params: bytes) -> bytes:
    """Return a long request (see is_long) with `"stream": true`, else to the byte as it is."""
    if _decode_size(params).stream is msgspec.UNSET:
        return params.replace(b"{", b'{"stream":true,', 1)
    return msgspec.json.encode(decode_fields(params) | {"stream": msgspec.Raw(b"true")})
