"""The connections to one endpoint: as many as there are calls, kept for the next ones.

HTTP/1.1 has no request ids: an answer belongs to the request before it on the connection. A broken
proxy that sends an answer twice, or too late, shifts all later answers by one. So a connection that
receives anything while it is idle is closed, and none is taken while unread bytes wait in it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nightmill_worker.http.connection import Connection
    from nightmill_worker.http.opening import Opener

KEPT_S: Final = 15.0
"""An idle connection is closed after so long, seconds: many servers close theirs soon after."""


class Pool:
    """Gives a connection to each call. There is no limit: the lane limits the calls."""

    def __init__(self, opener: Opener) -> None:
        """Take what opens connections."""
        self._opener = opener
        self._all: set[Connection] = set()
        self._idle: deque[tuple[Connection, float]] = deque()
        """With the loop's time since when, the longest first."""
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    async def take(self) -> Connection:
        """Return a connection, a new one if none is idle; raises as Opener.open."""
        idle = self._idle
        while idle:
            connection, _ = idle.pop()  # the last one used: it has most time left
            if connection.is_clean() and not connection.has_unread():
                return connection
            connection.end()
        connection = await self._opener.open(self._all.discard)
        if connection.transport is not None:
            self._all.add(connection)
        if self._closed:
            connection.end()
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keep a connection whose answer is whole, and close any other one."""
        if not connection.is_clean():
            connection.end()
            return
        self._idle.append((connection, self._loop.time()))
        if self._timer is None:
            self._timer = self._loop.call_later(KEPT_S, self._close_old)

    def close(self) -> None:
        """Close all connections; calls that still run get an HttpError."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._idle.clear()
        for connection in list(self._all):
            connection.end()

    def _close_old(self) -> None:
        """Close the connections that were idle for too long."""
        now = self._loop.time()
        while self._idle and self._idle[0][1] <= now - KEPT_S:
            self._idle.popleft()[0].end()
        self._timer = None
        if self._idle:
            since = self._idle[0][1]
            self._timer = self._loop.call_later(since + KEPT_S - now, self._close_old)
