"""Open Redis connections with nightmill's timeouts, and turn redis-py's errors into ours."""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import redis.asyncio
from redis import exceptions

from nightmill.errors import (
    QueueFullError,
    QueueRefusedError,
    QueueUnavailableError,
    SettingsError,
    WrongLoopError,
)
from nightmill.safety import private
from nightmill.setting_values import FIX_URL

if TYPE_CHECKING:
    from nightmill.settings import Settings

SOCKET: Final = "valkey.sock"
TIMEOUT_S = 10.0
"""Longest wait for a connection, and for one answer, seconds."""
_TIMEOUTS: Final[dict[str, Any]] = {
    "socket_timeout": TIMEOUT_S,
    "socket_connect_timeout": TIMEOUT_S,
}
SOCKET_PATH_MAX: Final = 103
"""Longest path of a unix socket that every system takes, bytes."""
SHORT_SOCKETS: Final = Path("/tmp")  # noqa: S108 - TMPDIR may differ between commands


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


def embedded_socket(data_dir: Path) -> Path:
    """Return the socket of the embedded server of `data_dir`: the same path in every command.

    The socket is `valkey.sock` in `data_dir`. When that path is too long, or a URL would have to
    escape it (clients differ in how they read escapes), it is a short path in SHORT_SOCKETS.
    """
    home = data_dir.resolve()
    path = home / SOCKET
    if len(os.fsencode(path)) <= SOCKET_PATH_MAX and quote(os.fsencode(path)) == str(path):
        return path
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return SHORT_SOCKETS / f"nightmill-{os.getuid()}" / f"{name}.sock"


def require_own_socket(path: Path) -> None:
    """Raise SettingsError unless the socket and its folder are this user's own.

    Any user may make a folder in SHORT_SOCKETS, and a server there would get all prompts. In a data
    directory the socket may also be that of the directory's owner: root may look at another's.
    """
    try:
        folder, socket = path.parent.lstat(), path.lstat()
    except OSError as error:
        raise private.unusable(path, error) from None
    shared = path.name != SOCKET
    owners = {os.getuid()} if shared else {os.getuid(), folder.st_uid}
    own = folder.st_uid in owners and socket.st_uid in owners and stat.S_ISSOCK(socket.st_mode)
    if shared and not is_private(folder):
        own = False
    if not own:
        raise SettingsError(
            f"{path} is not a socket of this user in a private folder of this user: another user "
            f"may have made it; remove {path.parent if shared else path} and try again"
        )


def is_private(folder: os.stat_result) -> bool:
    """Return whether a folder is this user's own, and nobody else has a right to it."""
    own = stat.S_ISDIR(folder.st_mode) and folder.st_uid == os.getuid()
    return own and not folder.st_mode & private.OTHERS


def connect(settings: Settings) -> redis.asyncio.Redis:
    """Return an asyncio client; nothing is sent yet. It raises WrongLoopError in a second loop."""
    with _url_errors():
        pool = _OneLoopPool.from_url(redis_url(settings), **_TIMEOUTS)
    client: redis.asyncio.Redis = redis.asyncio.Redis.from_pool(pool)
    return client


def connect_blocking(settings: Settings) -> redis.Redis:
    """Return a client whose calls block the thread; nothing is sent yet."""
    with _url_errors():
        client: redis.Redis = redis.Redis.from_url(redis_url(settings), **_TIMEOUTS)
    return client


class _OneLoopPool(redis.asyncio.ConnectionPool):
    """Connections of one event loop: in another one they would fail with "loop is closed"."""

    _loop: asyncio.AbstractEventLoop | None = None

    async def get_connection(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - redis-py's
        """Return a connection. Raises WrongLoopError when another loop has connections here."""
        self._require_loop()
        return await super().get_connection(*args, **kwargs)

    async def disconnect(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - redis-py's
        """Close all connections; any loop may open new ones then."""
        self._require_loop()
        await super().disconnect(*args, **kwargs)
        self._loop = None

    def _require_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            raise WrongLoopError
        self._loop = loop


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
            raise QueueRefusedError(f"Redis refuses: {error}; {fix}") from error
        raise QueueUnavailableError(f"Redis does not answer: {error}{_hint(error)}") from error


ALLOW = "allow this user what docs/operations.md lists: ACL SETUSER NAME ~arq:* ~nightmill:* "
ALLOW += "&nightmill:* +@all -@dangerous +info"
_CLUSTER = "NIGHTMILL_REDIS_URL is a Redis cluster, which nightmill cannot use: give a single Redis"
_CREDENTIAL = "check the user and the password of NIGHTMILL_REDIS_URL"
_FIXES: Final = {
    exceptions.NoPermissionError: ALLOW,
    exceptions.AuthenticationError: _CREDENTIAL,
}
# redis-py leaves the code word of these in their texts; errors of scripts have it as well.
_FIX_OF_WORD: Final = {
    "NOPERM": ALLOW,
    "can't run this command": ALLOW,
    "can't access": ALLOW,
    "No permissions": ALLOW,
    "ACL failure": ALLOW,
    "has no permissions": ALLOW,
    "username-password": _CREDENTIAL,
    "WRONGPASS": _CREDENTIAL,
    "NOAUTH": _CREDENTIAL,
    "WRONGTYPE": "a key of nightmill holds another program's data: give a database of its own",
    "CROSSSLOT": _CLUSTER,
    "MOVED": _CLUSTER,
    "do not hash to the same slot": _CLUSTER,
    "unknown command": "use Redis 7 or newer, or Valkey, without renamed commands",
}


def _hint(error: Exception) -> str:
    """Return what may help, of an error that may pass: a replica can become the primary."""
    replica = isinstance(error, exceptions.ReadOnlyError) or "read only replica" in str(error)
    return " Give the URL of its primary in NIGHTMILL_REDIS_URL" if replica else ""


def refusal(error: Exception) -> str:
    """Return the fix of an error that Redis would give again and again; "" for any other."""
    for kind, fix in _FIXES.items():
        if isinstance(error, kind):
            return fix
    if not isinstance(error, exceptions.RedisError):
        return ""
    text = str(error)[:300]
    return next((fix for word, fix in _FIX_OF_WORD.items() if word in text), "")
