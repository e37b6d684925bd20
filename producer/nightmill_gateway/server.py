"""Listening: the address, the limits of connections, and a stop that drops no request."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from nightmill.errors import ServerError
from nightmill_gateway.answers.errors import ApiError
from nightmill_gateway.answers.log import report
from nightmill_gateway.answers.reply import error_reply, new_request_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

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


@asynccontextmanager
async def listening(
    app: web.Application, host: str, port: int, *, grace_s: float, headers_s: float = HEADERS_S
) -> AsyncIterator[str]:
    """Serve `app` for the length of the block; yield its URL.

    Port 0 takes a free one. At the end no new connection is taken, and requests have `grace_s`
    seconds to finish. Raises ServerError when the address cannot be used.
    """
    newcomers: _Newcomers | None = None

    @web.middleware
    async def arrived(request: web.Request, handler: Handler) -> web.StreamResponse:
        if newcomers is not None:
            newcomers.arrived(request.protocol)
        return await handler(request)

    app.middlewares.insert(0, arrived)
    runner = web.AppRunner(
        app,
        shutdown_timeout=max(grace_s, SOON_S),
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
    try:
        try:
            listener = await loop.create_server(newcomers.accept, host, port, backlog=BACKLOG)
        except OSError as error:
            reason = error.strerror or error
            raise ServerError(f"cannot listen on {host}:{port}: {reason}; choose another") from None
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{listener.sockets[0].getsockname()[1]}"
        listener.close()
    finally:
        newcomers.end()
        await runner.cleanup()
