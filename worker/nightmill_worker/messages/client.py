"""One POST to a Messages endpoint over a shared session. The result is a value.

Nothing is retried or redirected here: `nightmill_worker.jobs.retry` decides about the next call.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from types import TracebackType
from typing import Final, Self

import aiohttp
import msgspec
from yarl import URL

from nightmill.errors import SettingsError
from nightmill.settings import Settings
from nightmill_worker.messages.accumulate import Accumulator, StreamError
from nightmill_worker.messages.outcome import NOT_JSON, BreakKind, Broken, Reply
from nightmill_worker.messages.sse import Decoder
from nightmill_worker.messages.watch import Watch, Watched

STREAM_ABOVE_TOKENS: Final = 16_000
"""`max_tokens` above which a call is streamed: proxies cut a connection that is silent so long."""
DNS_TTL_S: Final = 300
DRAIN_S: Final = 0.5
"""Longest wait for the rest of a stream after message_stop, seconds: it saves the connection."""
LARGE_BODY: Final = 1 << 20
"""Bytes of a request's body. A larger body is given to aiohttp as a file and sent in pieces."""
REDIRECTS: Final = 300

# The first class that fits decides.
_KINDS: Final[tuple[tuple[type[Exception], BreakKind], ...]] = (
    (aiohttp.ConnectionTimeoutError, "connection_error"),
    (aiohttp.ClientConnectorError, "connection_error"),
    (TimeoutError, "timeout"),
    (aiohttp.ClientPayloadError, "truncated_response"),
    (aiohttp.ClientConnectionError, "connection_dropped"),
    (OSError, "connection_dropped"),
)


class _Size(msgspec.Struct):
    """The fields of a request that decide whether its answer is streamed."""

    stream: bool = False
    max_tokens: int = 0


_decode_size = msgspec.json.Decoder(_Size).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class MessagesClient:
    """An async context manager. Inside it any number of `send` may run at once."""

    def __init__(self, settings: Settings) -> None:
        """Prepare address, headers and timeouts.

        Raises SettingsError for a base URL or a credential that no request can carry.
        """
        self._url = messages_url(settings.base_url)
        self._secret = _credential(settings)
        name = "Authorization" if settings.auth_token else "x-api-key"
        value = f"Bearer {self._secret}" if settings.auth_token else self._secret
        self._headers = {
            "anthropic-version": settings.anthropic_version,
            "content-type": "application/json",
            "user-agent": f"nightmill/{version('nightmill')}",
        }
        if value:
            self._headers[name] = value
        self._timeout = aiohttp.ClientTimeout(sock_connect=settings.connect_timeout_s)
        self._limits_s = (settings.job_timeout_s, settings.read_timeout_s)

    async def __aenter__(self) -> Self:
        """Open the session. It opens connections as calls need them, without a limit."""
        self._watch = Watch(*self._limits_s, asyncio.get_running_loop())
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=DNS_TTL_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            timeout=self._timeout,
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close every connection. Calls that still run end as Broken."""
        await self._session.close()

    async def send(self, params: bytes) -> Reply | Broken:
        """Post `params` (the request as JSON) and return the answer, or why there is none.

        Raises nothing but CancelledError. Above STREAM_ABOVE_TOKENS the answer is requested as a
        stream. A stream is returned as the one Message that it makes.
        """
        response: aiohttp.ClientResponse | None = None
        body = _streamed(params)
        data = body if len(body) <= LARGE_BODY else io.BytesIO(body)
        try:
            with self._watch.begin() as call:
                response = await self._session.post(self._url, data=data, allow_redirects=False)
                return await self._reply(response, call)
        except (aiohttp.ClientError, OSError, TimeoutError, StreamError) as error:
            return self._broken(error, response)
        finally:
            if response is not None:
                response.release()  # does nothing after a whole answer, else closes the connection

    async def _reply(self, response: aiohttp.ClientResponse, call: Watched) -> Reply:
        """Read the whole answer. Raises StreamError and the network's errors."""
        status, headers = response.status, response.headers
        if status >= REDIRECTS:
            body = self._without_secret(await _read_error(response))
        elif headers.get("content-type", "").startswith("text/event-stream"):
            body = await _read_stream(response.content, call, self._watch.loop.time)
        else:
            body = await response.read()
        return Reply(status=status, headers=headers, body=body)

    def _broken(self, error: Exception, response: aiohttp.ClientResponse | None) -> Broken:
        """Return an error as a value. aiohttp's texts hold addresses, but no headers."""
        if isinstance(error, StreamError):
            kind = error.kind
        else:
            kinds = (kind for cls, kind in _KINDS if isinstance(error, cls))
            kind = next(kinds, "invalid_response")
        detail = str(error) or type(error).__name__
        if response is None:
            return Broken(kind=kind, detail=detail)
        return Broken(kind=kind, detail=detail, status=response.status, headers=response.headers)

    def _without_secret(self, body: bytes) -> bytes:
        """Replace the credential where an endpoint repeats it in its error."""
        return body.replace(self._secret.encode(), b"[credential]") if self._secret else body


def messages_url(base_url: str) -> URL:
    """Return the address of `POST /v1/messages`. `base_url` may end in /v1 and in a slash.

    Raises SettingsError when `base_url` is not an http(s) address or carries a credential.
    """
    try:
        url = URL(base_url.rstrip("/").removesuffix("/v1") + "/v1/messages")
    except ValueError as error:
        raise SettingsError(f"NIGHTMILL_BASE_URL: {error} (given: {base_url!r})") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise SettingsError(f"NIGHTMILL_BASE_URL: not an http(s) address (given: {base_url!r})")
    if url.raw_user or url.raw_password:  # the message does not show it: it is a secret
        raise SettingsError("NIGHTMILL_BASE_URL: holds a user or password; set API_KEY instead")
    return url


def _credential(settings: Settings) -> str:
    """Return the credential without white space around it, "" when there is none."""
    given = settings.api_key or settings.auth_token
    secret = given.get_secret_value().strip() if given else ""
    if not (secret.isascii() and secret.isprintable()):
        raise SettingsError("API_KEY or AUTH_TOKEN: holds characters that no header can carry")
    return secret


def _streamed(params: bytes) -> bytes:
    """Return `params`, with `stream: true` added when the answer may take long."""
    try:
        size = _decode_size(params)
        if size.stream or size.max_tokens <= STREAM_ABOVE_TOKENS:
            return params
        return msgspec.json.encode(_decode_fields(params) | {"stream": msgspec.Raw(b"true")})
    except NOT_JSON:
        return params  # the endpoint explains the error


async def _read_error(response: aiohttp.ClientResponse) -> bytes:
    """Return an error's body, b"" when it was cut: the status alone decides then."""
    try:
        return await response.read()
    except (aiohttp.ClientError, OSError, TimeoutError):
        return b""


async def _read_stream(
    content: aiohttp.StreamReader, call: Watched, clock: Callable[[], float]
) -> bytes:
    """Return the Message, or the error's JSON, of a stream of events."""
    decoder, accumulator = Decoder(), Accumulator()
    async for chunk in content.iter_any():
        call.received_at = clock()
        for event in decoder.feed(chunk):
            accumulator.add(event)
        if accumulator.done:
            await _drain(content)
            return accumulator.body()
    with suppress(StreamError):  # the stream was cut inside an event
        for event in decoder.finish():
            accumulator.add(event)
    return accumulator.body()


async def _drain(content: aiohttp.StreamReader) -> None:
    """Read what follows message_stop: only a connection that was read to its end is reused."""
    with suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with asyncio.timeout(DRAIN_S):
            while await content.readany():
                pass
