"""Listening: the address, the limits of connections, and a stop that drops no request."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler, RequestPayloadError

from nightmill.errors import ServerError
from nightmill_gateway.answers.errors import ApiError
from nightmill_gateway.answers.log import report
from nightmill_gateway.answers.reply import REQUEST_ID, SERVER, error_reply, new_request_id
from nightmill_gateway.stopping import STOPPING, WRITE_S, Stopping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

BACKLOG: Final = 1024
KEEPALIVE_S: Final = 75.0
"""How long a connection without a request stays open, seconds."""
HEADERS_S: Final = 20.0
"""Longest time for the headers of a connection's first request, seconds."""
SOON_S: Final = 0.05
"""In place of no grace at all, which aiohttp takes for a wait without end, seconds."""
NO_HTTP: Final = "the request cannot be read as HTTP/1.1: check its first line and its headers"
HEADER_BYTES: Final = 16 << 10
"""Longest header, and longest request line, bytes."""


class _Connection(RequestHandler):
    """One connection. What is no HTTP is answered in the API's envelope, and not logged.

    aiohttp would log the header that it cannot read, which may be the key.
    """

    __slots__ = ()

    def log_exception(self, *args: object, **more: object) -> None:
        """Log what no handler has caught; a body that cannot be read is its client's matter."""
        if not isinstance(more.get("exc_info"), RequestPayloadError):
            super().log_exception(*args, **more)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to a request that reached no handler."""
        del message
        if request.writer.output_size > 0:
            raise ConnectionError
        request_id = new_request_id()
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR and exc is not None:
            report(request_id, exc)
        answer = error_reply(ApiError(status, NO_HTTP), request_id)
        answer.force_close()
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Answer in the API's envelope what aiohttp refuses before any handler: `Expect`."""
        if isinstance(resp, web.HTTPException):
            resp = error_reply(ApiError(resp.status, resp.text or resp.reason), new_request_id())
        return await super().finish_response(request, resp, start_time)


class _Newcomers:
    """Closes connections that send no whole request within HEADERS_S of their start."""

    def __init__(self, connect: Callable[[], asyncio.BaseProtocol], headers_s: float) -> None:
        self._connect = connect
        self._headers_s = headers_s
        self._timers: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}

    def accept(self) -> asyncio.BaseProtocol:
        """Return the protocol of a new connection."""
        protocol = self._connect()
        loop = asyncio.get_running_loop()
        self._timers[protocol] = loop.call_later(self._headers_s, self._cut, protocol)
        return protocol

    def _cut(self, protocol: asyncio.BaseProtocol) -> None:
        self._timers.pop(protocol, None)
        transport = getattr(protocol, "transport", None)
        if transport is not None:
            transport.abort()

    def arrived(self, protocol: asyncio.BaseProtocol) -> None:
        """Note that the headers of a request are there."""
        if timer := self._timers.pop(protocol, None):
            timer.cancel()

    def end(self) -> None:
        """Forget all connections."""
        for timer in self._timers.values():
            timer.cancel()


def bind(host: str, port: int) -> list[socket.socket]:
    """Return sockets that listen on all addresses of `host`; port 0 takes a free one.

    Raises ServerError when the address cannot be used.
    """
    bound: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((each[0], each[4]) for each in found):
            one = socket.socket(family, socket.SOCK_STREAM)
            bound.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            first = bound[0].getsockname()[1] if port == 0 and len(bound) > 1 else port
            one.bind((address[0], first, *address[2:]))
            one.listen(BACKLOG)
            one.settimeout(0)
    except OSError as error:
        for one in bound:
            one.close()
        reason = error.strerror or error
        raise ServerError(f"cannot listen on {host}:{port}: {reason}; choose another") from None
    return bound


def url_of(host: str, sockets: Sequence[socket.socket]) -> str:
    """Return the URL of a gateway that listens on `sockets`."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{sockets[0].getsockname()[1]}"


@asynccontextmanager
async def listening(  # noqa: PLR0913 - an address, or its sockets, and the limits
    app: web.Application,
    host: str,
    port: int,
    *,
    grace_s: float,
    headers_s: float = HEADERS_S,
    sockets: Sequence[socket.socket] = (),
) -> AsyncIterator[str]:
    """Serve `app` for the length of the block; yield its URL.

    On `sockets` of `bind`, else on those of `host` and `port`. At the end requests have `grace_s`
    seconds to finish, and new ones are refused meanwhile. Raises ServerError when the address
    cannot be used.
    """
    sockets = sockets or bind(host, port)
    newcomers: _Newcomers | None = None
    stopping = app.setdefault(STOPPING, Stopping())

    @web.middleware
    async def arrived(request: web.Request, handler: Handler) -> web.StreamResponse:
        if newcomers is not None:
            newcomers.arrived(request.protocol)
        try:
            with stopping.request(request.path):
                return await handler(request)
        except ApiError as error:
            request[REQUEST_ID] = new_request_id()
            return error_reply(error, request[REQUEST_ID])

    async def last_answer(_: web.Request, response: web.StreamResponse) -> None:
        response.headers["server"] = SERVER
        if stopping.begun:
            response.headers["connection"] = "close"
            response.force_close()

    app.middlewares.insert(0, arrived)
    app.on_response_prepare.append(last_answer)
    runner = web.AppRunner(
        app,
        shutdown_timeout=max(min(WRITE_S, grace_s), SOON_S),
        handler_cancellation=True,  # a client that hangs up must not be worked for
    )
    await runner.setup()
    if runner.server is None:
        raise ServerError
    loop = asyncio.get_running_loop()
    connect = partial(
        _Connection,
        runner.server,
        loop=loop,
        access_log=None,  # type: ignore[arg-type] # as aiohttp's own runners pass it
        keepalive_timeout=KEEPALIVE_S,
        max_line_size=HEADER_BYTES,
        max_field_size=HEADER_BYTES,
    )
    newcomers = _Newcomers(connect, headers_s)
    listeners = [
        await loop.create_server(newcomers.accept, sock=each, backlog=BACKLOG) for each in sockets
    ]
    try:
        yield url_of(host, sockets)
        await stopping.finish(grace_s)
    finally:
        for listener in listeners:
            listener.close()
        newcomers.end()
        await runner.cleanup()
