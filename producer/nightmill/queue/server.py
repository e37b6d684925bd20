"""What kind of server a new connection has reached: a Redis cluster and a Sentinel are refused."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from redis import exceptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PLACE: Final = "redis+sentinel://HOST:PORT,HOST:PORT/PRIMARY/DATABASE"
CLUSTER_FIX: Final = (
    "give NIGHTMILL_REDIS_URL of a single Redis or Valkey (cluster mode off), watched by Sentinels "
    f"when it must outlive its machine: {_PLACE}"
)
OWN_CERTIFICATE: Final = (
    "add ?ssl_certfile=FILE&ssl_keyfile=FILE to NIGHTMILL_REDIS_URL: this Redis wants a "
    "certificate of its clients"
)
_WRONG: Final = {
    "cluster": ("it is a cluster, and nightmill's scripts use keys of several slots", CLUSTER_FIX),
    "sentinel": ("it is a Sentinel, which holds no jobs", f"give {_PLACE}"),
}


class WrongServerError(exceptions.RedisError):
    """The server is of a kind that cannot be used at all."""

    def __init__(self, problem: str, fix: str) -> None:
        """Take what is wrong, and what to use instead."""
        super().__init__(problem)
        self.fix = fix


async def checked(connection: Any) -> None:  # noqa: ANN401 - redis-py's
    """Begin a connection, and ask its server what it is."""
    with _closed_at_once(connection):
        await connection.on_connect()
        await connection.send_command("HELLO")
        with suppress(exceptions.ResponseError):  # not for this user, or not known by the server
            _require_usable(connection, await connection.read_response())


def checked_blocking(connection: Any) -> None:  # noqa: ANN401 - redis-py's
    """Do the same with calls that block the thread."""
    with _closed_at_once(connection):
        connection.on_connect()
        connection.send_command("HELLO")
        with suppress(exceptions.ResponseError):
            _require_usable(connection, connection.read_response())


@contextmanager
def _closed_at_once(connection: Any) -> Iterator[None]:  # noqa: ANN401 - redis-py's
    """Say what a server may want that closes new connections over TLS: it often gives no reason."""
    try:
        yield
    except exceptions.AuthenticationError:
        raise
    except exceptions.ConnectionError as error:
        if getattr(connection, "certfile", "none is needed"):
            raise
        text = f"{error}. If this goes on, {OWN_CERTIFICATE}"
        raise exceptions.ConnectionError(text) from error


def _require_usable(connection: Any, reply: Any) -> None:  # noqa: ANN401 - redis-py's
    """Raise WrongServerError for a server of another kind, ConnectionError for a late demotion."""
    facts: Mapping[bytes, Any] = (
        reply if isinstance(reply, dict) else dict(zip(reply[::2], reply[1::2], strict=True))
    )
    if wrong := _WRONG.get(facts.get(b"mode", b"").decode()):
        raise WrongServerError(*wrong)
    if hasattr(connection, "connection_pool") and facts.get(b"role") != b"master":
        # Sentinels name the old primary until they have agreed on the new one.
        raise exceptions.ConnectionError("the Redis that the Sentinels name is no primary yet")
