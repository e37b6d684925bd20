"""Which calls are streamed although their request does not ask for it.

A call that is not streamed is silent until its answer is whole. READ_TIMEOUT_S and proxies cut a
silence that is too long, and the call is paid all the same. A stream is not silent, so long calls
are streamed. And the headers of a stream come with its first byte: they report the rate limits
while the call still runs. So the first call to each model is streamed too.
"""

from __future__ import annotations

from typing import Final

import msgspec

from nightmill_worker.messages.blocks import NULL, decode_fields
from nightmill_worker.messages.classify import classify
from nightmill_worker.messages.outcome import (
    NOT_JSON,
    SUCCESS,
    Broken,
    Reply,
    StopAccount,
    Suspect,
)

TOKENS_PER_S: Final = 50
"""The speed of a slow model, for the estimate of a call's duration."""
STREAM_ABOVE_TOKENS: Final = 16_000
"""`max_tokens` above which a call is always streamed: proxies cut a connection so long silent."""
FIRST_STREAMS: Final = 4
"""So many calls to a model are streamed at most, one after the other, until one is answered."""
REFUSALS: Final = frozenset({400, 404, 405, 415, 422})
"""Statuses with which an endpoint may refuse to stream."""


class _Request(msgspec.Struct):
    """The fields of a request that decide whether its answer is streamed."""

    stream: bool | msgspec.UnsetType | None = msgspec.UNSET
    max_tokens: int = 0
    model: msgspec.Raw = NULL


class Streamed(msgspec.Struct, frozen=True, kw_only=True):
    """A call that is streamed although its request does not ask for it."""

    long: bool
    """Whether it may take long. False: it is the first one to its model."""
    model: bytes
    """The model as JSON."""


_decode_request: Final = msgspec.json.Decoder(_Request).decode


class Streaming:
    """Decides for one endpoint which calls are streamed."""

    def __init__(self, read_timeout_s: float) -> None:
        """Take the longest silence of a call, seconds."""
        self.above = min(STREAM_ABOVE_TOKENS, int(TOKENS_PER_S * read_timeout_s / 2))
        """A call with more `max_tokens` is streamed: it may last half of the longest silence."""
        self.refused = False
        """Whether the endpoint refused a stream of a request that it answered unstreamed."""
        self._first_streams: dict[bytes, int] = {}  # model -> how many there were
        self._settled: set[bytes] = set()  # models of which no first stream may start now

    def begin(self, params: bytes) -> Streamed | None:
        """Return how a call that starts now is streamed, None when it goes as it is written.

        A long call is streamed whatever its `stream` says. A first call is not when its request
        has a `stream`: then its user chose.
        """
        try:
            request = _decode_request(params)
        except NOT_JSON:
            return None  # the endpoint explains the error
        if request.stream is True:
            return None
        model = bytes(request.model)
        if request.max_tokens > self.above:
            return Streamed(long=True, model=model)
        if self.refused or model in self._settled or request.stream is not msgspec.UNSET:
            return None
        self._settled.add(model)
        self._first_streams[model] = self._first_streams.get(model, 0) + 1
        return Streamed(long=False, model=model)

    def end(self, call: Streamed, reply: Reply | Broken) -> bool:
        """Take the end of a streamed call. Return whether it is repeated without a stream.

        Only what the endpoint refused, and did not charge, is repeated. A first stream that was
        answered is the last one, whole or not: an answer that broke off is paid.
        """
        unpaid = reply.status not in SUCCESS
        if not call.long and unpaid and self._first_streams[call.model] < FIRST_STREAMS:
            self._settled.discard(call.model)
        return isinstance(reply, Reply) and reply.status in REFUSALS and not _is_of_account(reply)


def _is_of_account(reply: Reply) -> bool:
    """Return whether a refusal is about the account, so that no call would be answered."""
    outcome = classify(reply, 0.0)
    return isinstance(outcome, StopAccount) or (
        isinstance(outcome, Suspect) and bool(outcome.words)
    )


def streamed(params: bytes) -> bytes:
    """Return such a request (see Streaming) with `"stream": true`, else to the byte as it is."""
    if _decode_request(params).stream is msgspec.UNSET:
        return params.replace(b"{", b'{"stream":true,', 1)
    return msgspec.json.encode(decode_fields(params) | {"stream": msgspec.Raw(b"true")})
