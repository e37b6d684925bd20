"""Listening: the address, the limits of connections, and a stop that drops no request."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiohttp import web

from nightmill.errors import ServerError

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
HEADER_BYTES: Final = 16 << 10
"""Longest header, and longest request line, bytes."""


class _Newcomers:
    """Closes connections that send no whole request within HEADERS_S of their start."""

    def __init__(self, server: Callable[[], asyncio.BaseProtocol], headers_s: float) -> None:
        self._server = server
        self._headers_s = headers_s
        self._timers: dict[asyncio.BaseProtocol, asyncio.TimerHandle] = {}

    def accept(self) -> asyncio.BaseProtocol:
        """Return the protocol of a new connection."""
        protocol = self._server()
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
        access_log=None,
        handler_cancellation=True,  # a client that hangs up must not be worked for
        keepalive_timeout=KEEPALIVE_S,
        shutdown_timeout=max(grace_s, SOON_S),
        max_line_size=HEADER_BYTES,
        max_field_size=HEADER_BYTES,
    )
    await runner.setup()
    if runner.server is None:
        raise ServerError
    newcomers = _Newcomers(runner.server, headers_s)
    loop = asyncio.get_running_loop()
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
