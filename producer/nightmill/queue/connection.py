"""Open Redis connections the way nightmill needs them, and map their errors at the edge."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import redis
import redis.asyncio
from redis import exceptions

from nightmill.errors import QueueFullError, QueueUnavailableError, SettingsError

if TYPE_CHECKING:
    from nightmill.settings import Settings

TIMEOUT_S = 10.0
"""Longest wait for one Redis answer, seconds."""
SOCKET_PATH_MAX: Final = 103
"""Bytes of a unix socket's path that every system takes."""
SHORT_SOCKETS: Final = Path("/tmp")  # noqa: S108 - same for every command, TMPDIR is not


def redis_url(settings: Settings) -> str:
    """Return the URL to use: REDIS_URL, else the embedded server's socket if it runs.

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
    """Return where the embedded server of `data_dir` listens: the same for every command.

    A path that is too long, or that a URL would have to escape (clients disagree on undoing
    that), is replaced by a short one in a directory of this user's.
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


def connect_sync(settings: Settings) -> redis.Redis:
    """Return a blocking client; nothing is sent yet."""
    with _url_errors():
        client: redis.Redis = redis.Redis.from_url(
            redis_url(settings), socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )
    return client


def moment(seconds: int, micros: int) -> datetime:
    """Return what Redis's TIME says; its clock is the one that deadlines are held against."""
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
