"""Opens connections: addresses, TLS, and the proxy between here and the endpoint."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import aiohappyeyeballs
import msgspec

from nightmill_worker.http.connection import Connection
from nightmill_worker.http.errors import HttpError, ProxyRefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from aiohappyeyeballs import AddrInfoType
    from yarl import URL

    from nightmill_worker.http.proxy import Proxy

ADDRESSES_S: Final = 300
"""So long the addresses of a host are used, unless a connection fails; seconds."""
NEXT_ADDRESS_S: Final = 0.25
"""After so long without a connection the next address is tried beside the first, seconds."""
ALIVE: Final = {"TCP_KEEPIDLE": 60, "TCP_KEEPALIVE": 60, "TCP_KEEPINTVL": 60, "TCP_KEEPCNT": 5}
"""TCP asks a silent peer whether it lives: firewalls forget connections that say nothing."""


class Place(msgspec.Struct, frozen=True):
    """A server to connect to."""

    host: str
    port: int
    tls: bool

    @property
    def name(self) -> str:
        """The host as certificates name it. A dot at its end is for the lookup alone."""
        return self.host.removesuffix(".")

    def __str__(self) -> str:
        """Return HOST:PORT, as messages and CONNECT name it."""
        host = f"[{self.name}]" if ":" in self.name else self.name
        return f"{host}:{self.port}"


class Opener:
    """Opens connections to one endpoint, straight or by its proxy."""

    def __init__(self, url: URL, proxy: Proxy | None, timeout_s: float) -> None:
        """Take the endpoint, its proxy, and the longest time to connect to one server."""
        self._endpoint = place_of(url)
        self._proxy = proxy
        self._first = place_of(proxy.url) if proxy else self._endpoint
        self._timeout_s = timeout_s
        self._addresses: Sequence[AddrInfoType] = ()
        self._known_at = 0.0
        self._asking: asyncio.Task[Sequence[AddrInfoType]] | None = None
        self._tls: ssl.SSLContext | None = None

    async def open(self, lost: Callable[[Connection], None]) -> Connection:
        """Return a connection on which requests to the endpoint can be sent.

        `lost` is called when it has ended. Raises HttpError or ProxyRefusedError.
        """
        if self._proxy is None or not self._endpoint.tls:
            return await self._within_time(self._first, self._connect(Connection(lost)))
        tunnel = _Tunnel()
        await self._within_time(self._first, self._connect(tunnel))
        try:
            return await self._within_time(
                self._endpoint, self._through(tunnel, self._proxy, Connection(lost))
            )
        except BaseException:
            tunnel.end()
            raise

    async def _within_time(self, place: Place, opening: Awaitable[Connection]) -> Connection:
        """Return the connection that is being opened to `place`; raises HttpError."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return await opening
        except TimeoutError:
            why = f"no connection within {self._timeout_s:g} s"
        except HttpError as error:
            why = f"the proxy {self._first} opened no tunnel: {error}"
        except ProxyRefusedError:
            raise
        except Exception as error:  # noqa: BLE001 - TLS of the two loops raises RuntimeError, TypeError
            why = str(error) or type(error).__name__
        self._addresses = ()
        raise HttpError("connection_error", f"cannot connect to {place}: {why}")

    async def _connect(self, connection: Connection) -> Connection:
        """Connect to the endpoint or to its proxy."""
        place, task = self._first, asyncio.current_task()
        cancelled = task.cancelling() if task else 0
        found = await aiohappyeyeballs.start_connection(
            await self._addresses_of(place),
            happy_eyeballs_delay=NEXT_ADDRESS_S,
            interleave=1,
            socket_factory=_socket,
        )
        if task and task.cancelling() > cancelled:  # taken by an attempt that lost
            found.close()
            raise asyncio.CancelledError
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: connection,
                sock=found,
                ssl=self._context() if place.tls else None,
                server_hostname=place.name if place.tls else None,
                ssl_handshake_timeout=self._timeout_s if place.tls else None,
            )
        except BaseException:
            if connection.transport is None:
                found.close()
            connection.end()
            raise
        return connection

    async def _through(self, tunnel: _Tunnel, proxy: Proxy, connection: Connection) -> Connection:
        """Ask the proxy for a tunnel, and speak TLS with the endpoint in it."""
        place = self._endpoint
        given = "".join(f"{name}: {value}\r\n" for name, value in proxy.headers().items())
        names = f"Host: {place}\r\nUser-Agent: nightmill\r\n{given}"
        head = f"CONNECT {place} HTTP/1.1\r\n{names}\r\n".encode()
        answer = await tunnel.request(head, b"")
        if answer.status not in range(200, 300):
            raise ProxyRefusedError(answer.status, tunnel.reason, answer.headers)
        if tunnel.transport is None:
            raise HttpError("connection_dropped", "the connection ended after its answer")
        transport = await asyncio.get_running_loop().start_tls(
            tunnel.transport,
            connection,
            self._context(),
            server_hostname=place.name,
            ssl_handshake_timeout=self._timeout_s,
        )
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the connection ended after the TLS handshake")
        connection.connection_made(transport)
        return connection

    async def _addresses_of(self, place: Place) -> Sequence[AddrInfoType]:
        """Return the addresses of a host, another one first each time: each may be a server.

        Connections share one lookup. It goes on when their time is over: its threads are few, and
        a slow answer serves later connections.
        """
        now = asyncio.get_running_loop().time()
        if not self._addresses or now - self._known_at > ADDRESSES_S:
            if self._asking is None:
                self._asking = asyncio.create_task(self._ask(place))
                self._asking.add_done_callback(_take_error)
            asking = self._asking
            await asyncio.wait((asking,))
            found = asking.result()
            self._addresses = self._addresses or found  # a connection that failed has removed them
        found = self._addresses
        self._addresses = (*found[1:], *found[:1])
        return found

    async def _ask(self, place: Place) -> Sequence[AddrInfoType]:
        loop = asyncio.get_running_loop()
        try:
            self._addresses = found = await loop.getaddrinfo(
                place.host, place.port, type=socket.SOCK_STREAM
            )
            self._known_at = loop.time()
            return found
        finally:
            self._asking = None

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls


class _Tunnel(Connection):
    """A connection to a proxy, before it is a tunnel."""

    reason = ""

    def on_status(self, status: bytes) -> None:
        """Take the words after the status."""
        self.reason = status.decode("latin-1")


def _take_error(asking: asyncio.Task[Sequence[AddrInfoType]]) -> None:
    """Take the error of a lookup for which nobody waits any more."""
    if not asking.cancelled():
        asking.exception()


def place_of(url: URL) -> Place:
    """Return the server of an address."""
    return Place(url.raw_host or "", url.port or 0, url.scheme == "https")


def _socket(address: AddrInfoType) -> socket.socket:
    """Return a socket that sends at once, and notices a peer that is away."""
    made = socket.socket(*address[:3])
    made.settimeout(0)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in ALIVE.items():
        with suppress(AttributeError, OSError):  # not on each system
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made
