"""Open Redis connections with nightmill's timeouts, and turn redis-py's errors into ours."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import redis.asyncio
from redis import exceptions

from nightmill.errors import QueueFullError, QueueUnavailableError, SettingsError

if TYPE_CHECKING:
    from nightmill.settings import Settings

TIMEOUT_S = 10.0
"""Longest wait for a connection, and for one answer, seconds."""
SOCKET_PATH_MAX: Final = 103
"""Longest path of a unix socket that every system takes, bytes."""
SHORT_SOCKETS: Final = Path("/tmp")  # noqa: S108 - TMPDIR may differ between commands


def redis_url(settings: Settings) -> str:
    """Return REDIS_URL when it is set, else the socket of the embedded server when that runs.

    Raises SettingsError that says what to set.
    """
    if settings.redis_url:
        return settings.redis_url
    embedded = embedded_socket(settings.data_dir)
    if embedded.is_socket():
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
    path = home / "valkey.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_MAX and quote(os.fsencode(path)) == str(path):
        return path
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:16]
    return SHORT_SOCKETS / f"nightmill-{os.getuid()}" / f"{name}.sock"


def connect(settings: Settings) -> redis.asyncio.Redis:
    """Return an asyncio client; nothing is sent yet."""
    with _url_errors():
        client: redis.asyncio.Redis = redis.asyncio.Redis.from_url(
            redis_url(settings), socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )
    return client


def moment(seconds: int, micros: int) -> datetime:
    """Return the answer of Redis's TIME as a datetime; deadlines are compared with this clock."""
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=micros)


@contextmanager
def _url_errors() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        message = f"NIGHTMILL_REDIS_URL: {error}"
        raise SettingsError(message) from None


@contextmanager
def redis_errors() -> Iterator[None]:
    """Turn redis-py's errors into ours: QueueFullError, or QueueUnavailableError with the cause."""
    try:
        yield
    except exceptions.OutOfMemoryError as error:
        raise QueueFullError(f"Redis refuses writes: {error}") from error
    except (exceptions.RedisError, OSError) as error:
        raise QueueUnavailableError(f"Redis does not answer: {error}") from error
