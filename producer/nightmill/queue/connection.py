"""Open Redis connections with nightmill's timeouts, and turn redis-py's errors into ours."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import redis.asyncio
import redis.asyncio.sentinel
from redis import exceptions
from redis.sentinel import SentinelConnectionPool

from nightmill.errors import (
    QueueFullError,
    QueueRefusedError,
    QueueUnavailableError,
    SettingsError,
    WrongLoopError,
)
from nightmill.queue import server
from nightmill.queue.embedded import embedded_socket, require_own_socket
from nightmill.queue.refusals import hint, refusal
from nightmill.queue.sends import cancellable
from nightmill.queue.sentinel import AsyncSentinels, BlockingSentinels, sentinel_options
from nightmill.safety import private
from nightmill.setting_redis import FIX_URL, YES, RedisAddress, read_redis_url

if TYPE_CHECKING:
    from nightmill.settings import Settings

TIMEOUT_S = 10.0
"""Longest wait for a connection, and for one answer, seconds."""
_TIMEOUTS: Final[dict[str, Any]] = {
    "socket_timeout": TIMEOUT_S,
    "socket_connect_timeout": TIMEOUT_S,
}


def redis_url(settings: Settings) -> str:
    """Return REDIS_URL when it is set, else the socket of the embedded server when that runs.

    Raises SettingsError that says what to set, or that the socket is not this user's.
    """
    if settings.redis_url:
        return settings.redis_url
    embedded = embedded_socket(settings.data_dir)
    if private.exists(embedded):
        require_own_socket(embedded)
        return f"unix://{embedded}"
    message = (
        f"NIGHTMILL_REDIS_URL is not set and no embedded server runs in {settings.data_dir}: "
        "set it (redis://localhost:6379), or start `nightmill worker` in this folder"
    )
    raise SettingsError(message)


def connect(settings: Settings) -> redis.asyncio.Redis:
    """Return an asyncio client; nothing is sent yet. It raises WrongLoopError in a second loop."""
    address, options = _opened(settings, redis.asyncio.connection.parse_url, server.checked)
    if address.sentinels:
        options.pop("connection_class", None)
        more = sentinel_options(address, _tls(address))
        sentinels: Any = AsyncSentinels(address.sentinels, sentinel_kwargs=more)
        pool: Any = _OneLoopSentinelPool(address.primary, sentinels, **options)
    else:
        pool = _OneLoopPool(**options)
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_pool(pool)
    return client


def connect_blocking(settings: Settings) -> redis.Redis:
    """Return a client whose calls block the thread; nothing is sent yet."""
    address, options = _opened(settings, redis.connection.parse_url, server.checked_blocking)
    if address.sentinels:
        options.pop("connection_class", None)
        more = sentinel_options(address, _tls(address))
        sentinels: Any = BlockingSentinels(address.sentinels, sentinel_kwargs=more)  # type: ignore[no-untyped-call]
        pool: Any = SentinelConnectionPool(address.primary, sentinels, **options)
    else:
        pool = redis.ConnectionPool(**options)
    client: redis.Redis = redis.Redis.from_pool(pool)
    return client


def _opened(
    settings: Settings, parse: Callable[[str], Any], check: Callable[..., object]
) -> tuple[RedisAddress, dict[str, Any]]:
    """Return the address of Redis, and the arguments of its pool of connections."""
    with _url_errors():
        address = read_redis_url(redis_url(settings))
        options = {**_TIMEOUTS, **parse(address.url), **_tls(address)}
    _require_certificates(address)
    if address.sentinels:
        del options["host"], options["port"]
        options["ssl"] = address.tls is not None
    # No CLIENT SETINFO: Redis 7.0 does not know it, and a user would need a right for it.
    return address, options | {"redis_connect_func": check, "lib_name": None, "lib_version": None}


def _tls(address: RedisAddress) -> dict[str, Any]:
    """Return the arguments of TLS."""
    given: dict[str, Any] = dict(address.tls or {})
    if "ssl_check_hostname" in given:
        given["ssl_check_hostname"] = given["ssl_check_hostname"].lower() in YES
    return given


def _require_certificates(address: RedisAddress) -> None:
    """Raise SettingsError for files that TLS cannot use, which would fail at each connection."""
    given = address.tls or {}
    context = ssl.create_default_context() if given else None
    for name in ("ssl_ca_certs", "ssl_certfile"):
        if context is None or name not in given:
            continue
        try:
            if name == "ssl_ca_certs":
                context.load_verify_locations(given[name])
            else:
                context.load_cert_chain(given[name], given["ssl_keyfile"])
        except (OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or str(error)
            files = " and ".join(dict.fromkeys([given[name], given.get("ssl_keyfile", "")]))
            shown = given[name] if name == "ssl_ca_certs" else files
            raise SettingsError(
                f"NIGHTMILL_REDIS_URL: {name}: {shown}: cannot be read as PEM: {problem}"
            ) from None


class _OneLoop:
    """Connections of one event loop: in another one they would fail with "loop is closed"."""

    _loop: asyncio.AbstractEventLoop | None = None
    connection_class: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - redis-py's
        """Take what redis-py's pool takes."""
        super().__init__(*args, **kwargs)
        self.connection_class = cancellable(self.connection_class)

    async def get_connection(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - redis-py's
        """Return a connection. Raises WrongLoopError when another loop has connections here."""
        self._require_loop()
        return await super().get_connection(*args, **kwargs)  # type: ignore[misc]

    async def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002
        """Close connections; any loop may open new ones once all are closed."""
        self._require_loop()
        await super().disconnect(inuse_connections)  # type: ignore[misc]
        if inuse_connections:
            self._loop = None

    def _require_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise WrongLoopError
        self._loop = loop


class _OneLoopPool(_OneLoop, redis.asyncio.ConnectionPool):
    """Connections to the Redis of a URL."""


class _OneLoopSentinelPool(_OneLoop, redis.asyncio.sentinel.SentinelConnectionPool):
    """Connections to the primary that Sentinels name."""

    async def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002
        """Close connections, in the end also those to the Sentinels."""
        await super().disconnect(inuse_connections)
        if inuse_connections:
            await self.sentinel_manager.aclose()


def moment(seconds: int, micros: int) -> datetime:
    """Return the answer of Redis's TIME as a datetime; deadlines are compared with this clock."""
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=micros)


@contextmanager
def _url_errors() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        # The parser of URLs takes a part of a password for a port, and quotes it.
        text = FIX_URL if "could not be cast" in str(error) else str(error)
        raise SettingsError(f"NIGHTMILL_REDIS_URL: {text}") from None


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turn redis-py's errors into ours: QueueFullError, or QueueUnavailableError with the cause."""
    try:
        yield
    except exceptions.OutOfMemoryError as error:
        raise QueueFullError(f"Redis refuses writes: {error}") from error
    except (exceptions.RedisError, OSError) as error:
        if fix := refusal(error):
            problem = str(error).rstrip(".")
            raise QueueRefusedError(f"Redis refuses: {problem}; {fix}") from error
        raise QueueUnavailableError(f"Redis does not answer: {error}{hint(error)}") from error
