"""One POST to a Messages endpoint over kept connections. The result is a value.

Nothing is retried or redirected here: `nightmill_worker.jobs.retry` decides about the next call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import version
from types import TracebackType
from typing import Final, Self

import msgspec
from yarl import URL

from nightmill.errors import SettingsError
from nightmill.records.api import NO_API, Api
from nightmill.records.result import Usage
from nightmill.setting_values import endpoint_of
from nightmill.settings import Settings
from nightmill_worker.http.connection import Answer, Connection
from nightmill_worker.http.errors import HttpError, ProxyRefusedError
from nightmill_worker.http.head import head_of, with_length
from nightmill_worker.http.opening import Opener
from nightmill_worker.http.pool import Pool
from nightmill_worker.http.proxy import proxy_for
from nightmill_worker.messages.body import BodyBuilder, too_large
from nightmill_worker.messages.classify import describe
from nightmill_worker.messages.inflate import ACCEPTED, STEP, Inflater
from nightmill_worker.messages.limits import AnswerLimits
from nightmill_worker.messages.outcome import SUCCESS, AnswerError, BreakKind, Broken, Reply
from nightmill_worker.messages.streaming import Streaming, streamed
from nightmill_worker.messages.watch import Watch, Watched

Started = Callable[[Mapping[str, str]], None]
"""Is called with the headers of an answer that begins before it is whole."""

DRAIN_S: Final = 0.5
"""Longest wait for the rest of a stream after message_stop, seconds: it saves the connection."""
ERROR_BYTES: Final = 64 << 10
"""Bytes read of an error's body."""


class MessagesClient:
    """An async context manager. Inside it any number of `send` may run at once."""

    def __init__(self, settings: Settings) -> None:
        """Prepare address, headers, timeouts and limits.

        Raises SettingsError for a base URL, a credential or a version that no request can carry.
        """
        self._url = messages_url(settings.base_url)
        secret = _credential(settings)
        name = "Authorization" if settings.auth_token else "x-api-key"
        value = f"Bearer {secret}" if settings.auth_token else secret
        if not _is_sendable(settings.anthropic_version):
            raise SettingsError("ANTHROPIC_VERSION: holds characters that no header can carry")
        self._headers = {
            "accept": "*/*",
            "accept-encoding": ACCEPTED,
            "anthropic-version": settings.anthropic_version,
            "content-type": "application/json",
            "user-agent": f"nightmill/{version('nightmill')}",
            **settings.extra_headers,
        }
        if value:
            self._headers[name] = value
        self.proxy = proxy_for(self._url)
        self._by_proxy = self.proxy is not None and self._url.scheme == "http"
        if self.proxy and self._by_proxy:  # the proxy reads the call itself
            self._headers |= self.proxy.headers()
        self._head = self._head_with(self._headers)
        self._connect_timeout_s = settings.connect_timeout_s
        self._limits_s = (settings.job_timeout_s, settings.read_timeout_s)
        self._limits = AnswerLimits.of(settings)
        self._streaming = Streaming(settings.read_timeout_s)

    async def __aenter__(self) -> Self:
        """Make ready for calls. They open connections as they need them, without a limit."""
        self._watch = Watch(*self._limits_s, asyncio.get_running_loop())
        self._pool = Pool(Opener(self._url, self.proxy, self._connect_timeout_s))
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close every connection. Calls that still run end as Broken."""
        self._pool.close()

    async def send(
        self, params: bytes, started: Started | None = None, api: Api = NO_API
    ) -> Reply | Broken:
        """Post `params` (the request as JSON) and return the answer, or why there is none.

        Raises nothing but CancelledError. The answers to a long call and to a first call are
        requested as streams (see streaming.py). A stream is returned as the one Message that it
        makes. When the endpoint refuses a stream that the request does not ask for, the call is
        repeated without it. `started` gets the headers of a success that begins before it is whole.
        `api` is what the job asks for beside its request; nothing else of a job becomes a header.
        """
        head = self._head_for(api)
        call = self._streaming.begin(params)
        if call is None:
            return await self._send(head, params, started)
        if not self._streaming.refused:
            reply = await self._send(head, streamed(params), started)
            if not self._streaming.end(call, reply):
                return reply
        silent_s = self._watch.total_s if call.long else None
        reply = await self._send(head, params, started, silent_s=silent_s)
        if isinstance(reply, Reply) and reply.status in SUCCESS:
            self._streaming.refused = True
        return reply

    def _head_for(self, api: Api) -> bytes:
        """Return the head of a call's request, which its job may ask for headers of."""
        if not api:
            return self._head
        own = api.headers(self._headers.get("anthropic-beta", ""))
        return self._head_with({**self._headers, **own})

    def _head_with(self, headers: Mapping[str, str]) -> bytes:
        return head_of(self._url, headers, by_proxy=self._by_proxy)

    async def _send(
        self, head: bytes, body: bytes, started: Started | None, *, silent_s: float | None = None
    ) -> Reply | Broken:
        """Post `body`. The call may be silent for `silent_s` seconds, None: READ_TIMEOUT_S."""
        connection: Connection | None = None
        answer: Answer | None = None
        builder: BodyBuilder | None = None
        try:
            with self._watch.begin(silent_s) as call:
                connection = await self._pool.take()
                call.received_at = self._watch.loop.time()
                answer = await connection.request(with_length(head, body), body)
                call.received_at = self._watch.loop.time()
                status, headers = answer.status, answer.headers
                if status not in SUCCESS:
                    found = await _read_error(answer)
                    return Reply(status=status, headers=headers, body=found)
                if started is not None and not answer.ended:
                    started(headers)
                first = await answer.read()
                if _is_whole(first, answer) and len(first) <= self._limits.response_bytes:
                    return Reply(status=status, headers=headers, body=first)
                builder = BodyBuilder(self._limits, headers.get("content-type", ""))
                await self._read(first, answer, call, builder)
                return Reply(status=status, headers=headers, body=builder.body())
        except Exception as error:  # noqa: BLE001 - a call's error must not end its worker
            return _without_body(error, answer, builder)
        finally:
            if connection is not None:
                self._pool.give_back(connection)

    async def _read(
        self, chunk: bytes, answer: Answer, call: Watched, builder: BodyBuilder
    ) -> None:
        """Feed `builder` with `chunk` and the rest of the body, in pieces that other calls follow.

        Raises AnswerError and the network's errors.
        """
        inflater = Inflater.of(answer.headers.get("content-encoding"))
        now = self._watch.loop.time
        size, most = 0, self._limits.response_bytes
        while chunk:
            call.received_at = now()
            size += len(chunk)
            if inflater is None and len(chunk) <= STEP:
                builder.feed(chunk)
            else:
                for piece in inflater.pieces(chunk) if inflater else _steps(chunk):
                    builder.feed(piece)
                    await asyncio.sleep(0)
                    call.received_at = now()
            if size > most:  # as it came, compressed
                raise too_large(self._limits)
            if builder.done:
                await _drain(answer)
                return
            chunk = await answer.read()
        if inflater is not None:
            inflater.finish()


def messages_url(base_url: str) -> URL:
    """Return the address of `POST /v1/messages`; raises SettingsError for one that has none."""
    try:
        return URL(endpoint_of(base_url) + "/v1/messages")
    except ValueError as error:  # neither text shows a credential of the URL
        raise SettingsError(f"NIGHTMILL_BASE_URL: {error}") from None


def _credential(settings: Settings) -> str:
    """Return the credential without white space around it, "" when there is none."""
    given = settings.api_key or settings.auth_token
    secret = given.get_secret_value().strip() if given else ""
    if not _is_sendable(secret):
        raise SettingsError("API_KEY or AUTH_TOKEN: holds characters that no header can carry")
    return secret


def _is_sendable(value: str) -> bool:
    """Return whether a header can carry this."""
    return value.isascii() and value.isprintable()


def _without_body(
    error: Exception, answer: Answer | None, builder: BodyBuilder | None
) -> Reply | Broken:
    """Return a call that broke off as a value: whole all the same, refused, or Broken."""
    kind = _kind(error)
    detail = describe(error) if kind == "internal_error" else str(error) or type(error).__name__
    if isinstance(error, ProxyRefusedError):
        return _refusal(error)
    if answer is None:
        return Broken(kind=kind, detail=detail)
    status, headers = answer.status, answer.headers
    if status not in SUCCESS:
        return Reply(status=status, headers=headers)
    whole = builder.rescued() if builder and kind != "response_too_large" else None
    if whole is not None:
        return Reply(status=status, headers=headers, body=whole)
    partial, usage = (builder.partial(), builder.usage()) if builder else ("", Usage())
    return Broken(
        kind=kind, detail=detail, status=status, headers=headers, partial=partial, usage=usage
    )


def _refusal(error: ProxyRefusedError) -> Reply:
    """Return the answer of a proxy that opens no tunnel to the endpoint."""
    text = f"the proxy answered CONNECT with {error}"
    body = msgspec.json.encode({"error": {"message": text}})
    return Reply(status=error.status, headers=error.headers, body=body)


def _is_whole(first: bytes, answer: Answer) -> bool:
    """Return whether the first bytes are the whole of a JSON body, as almost always."""
    return first.startswith(b"{") and answer.ended and "content-encoding" not in answer.headers


def _kind(error: Exception) -> BreakKind:
    """Return what kind of break an exception is."""
    if isinstance(error, AnswerError | HttpError):
        return error.kind
    if isinstance(error, TimeoutError):
        return "timeout"
    return "connection_dropped" if isinstance(error, OSError) else "internal_error"


def _steps(chunk: bytes) -> list[bytes]:
    return [chunk[start : start + STEP] for start in range(0, len(chunk), STEP)]


async def _read_error(answer: Answer) -> bytes:
    """Return the beginning of an error's body, b"" when it was cut: the status decides then."""
    inflater = Inflater.of(answer.headers.get("content-encoding"))
    body = bytearray()
    with suppress(HttpError, OSError, TimeoutError, AnswerError):
        while len(body) < ERROR_BYTES:
            chunk = await answer.read()
            if not chunk:
                return bytes(body)
            for piece in inflater.pieces(chunk) if inflater else (chunk,):
                body += piece[:ERROR_BYTES]
                if len(body) >= ERROR_BYTES:
                    break
        return bytes(body[:ERROR_BYTES])
    return b""


async def _drain(answer: Answer) -> None:
    """Read what follows message_stop: only a connection that was read to its end is reused."""
    with suppress(HttpError, OSError, TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while await answer.read():
                pass
