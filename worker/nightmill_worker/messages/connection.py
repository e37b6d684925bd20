"""Connections that no stray answer can come from.

HTTP/1.1 has no request ids: an answer belongs to the request before it on the connection. A broken
proxy that sends an answer twice, or too late, shifts all later answers by one. So a connection that
receives anything while it is idle is closed, and none is taken while unread bytes wait in it.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Coroutine

    from aiohttp.client_proto import ResponseHandler
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

    Idle = deque[tuple[ResponseHandler, float]]


class CleanConnector(aiohttp.TCPConnector):
    """A connector that reuses only connections that received nothing since their last answer."""

    def _release(
        self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False
    ) -> None:
        """Put a connection back. From now on the protocol keeps all bytes unparsed, in its tail."""
        super()._release(key, protocol, should_close=should_close)
        protocol._parser = None  # noqa: SLF001 - its parser would make an answer of stray bytes

    def _get(
        self, key: ConnectionKey, traces: list[Trace]
    ) -> Coroutine[Any, Any, Connection | None]:
        """Return a clean idle connection, None when there is none."""
        idle: Idle | None = self._conns.get(key)
        while idle and _stained(idle[0][0]):
            idle.popleft()[0].close()
        return super()._get(key, traces)


def _stained(protocol: ResponseHandler) -> bool:
    """Return whether a connection received anything while it was idle, or was closed."""
    transport = protocol.transport
    if transport is None or protocol.should_close:
        return True
    socket: Any = transport.get_extra_info("socket")
    return socket is not None and _readable(socket.fileno())


def _readable(descriptor: int) -> bool:
    """Return whether bytes, or the end of the connection, wait to be read."""
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
