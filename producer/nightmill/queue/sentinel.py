"""Ask Sentinels which Redis is the primary. redis-py's classes, with errors that a person can read.

redis-py shows its own objects in the error, and takes a Sentinel that refuses for one that is away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from redis import exceptions
from redis.asyncio import sentinel as asyncio_sentinel
from redis.sentinel import MasterNotFoundError, Sentinel

from nightmill.queue.sends import cancellable
from nightmill.queue.server import WrongServerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nightmill.setting_redis import RedisAddress

TIMEOUT_S: Final = 2.0
"""Longest wait for one Sentinel, seconds: another one may answer."""


class AsyncSentinels(asyncio_sentinel.Sentinel):
    """The Sentinels of one primary."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - redis-py's
        """Take what redis-py's class takes."""
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        for sentinel in self.sentinels:
            pool = sentinel.connection_pool
            pool.connection_class = cancellable(pool.connection_class)

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return host and port of the primary. Raises ConnectionError of redis-py."""
        problems: list[Exception | None] = []
        for number, sentinel in enumerate(self.sentinels):
            try:
                state = (await sentinel.sentinel_masters()).get(service_name)
            except exceptions.RedisError as error:
                problems.append(error)
                continue
            if state and _is_up(state):
                self._put_first(number)
                return state["ip"], state["port"]
            problems.append(None if state is None else _down(service_name))
        raise _not_found(service_name, problems)

    def _put_first(self, number: int) -> None:
        self.sentinels.insert(0, self.sentinels.pop(number))

    async def aclose(self) -> None:
        """Close the connections to the Sentinels."""
        for sentinel in self.sentinels:
            await sentinel.aclose()


class BlockingSentinels(Sentinel):
    """The same with calls that block the thread."""

    def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return host and port of the primary. Raises ConnectionError of redis-py."""
        problems: list[Exception | None] = []
        for sentinel in self.sentinels:
            try:
                state = sentinel.sentinel_masters().get(service_name)
            except exceptions.RedisError as error:
                problems.append(error)
                continue
            if state and _is_up(state):
                return state["ip"], state["port"]
            problems.append(None if state is None else _down(service_name))
        raise _not_found(service_name, problems)


def sentinel_options(address: RedisAddress, tls: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the clients of the Sentinels."""
    return {
        "username": address.username,
        "password": address.password,
        "socket_timeout": TIMEOUT_S,
        "socket_connect_timeout": TIMEOUT_S,
        "ssl": address.tls is not None,
        **tls,
    }


def _is_up(state: Mapping[str, Any]) -> bool:
    return state["is_master"] and not state["is_sdown"] and not state["is_odown"]


def _passes(error: Exception) -> bool:
    if isinstance(error, exceptions.AuthenticationError):
        return False
    return isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError)


def _down(primary: str) -> Exception:
    return exceptions.ConnectionError(f"the Sentinels say that {primary} is down")


def _not_found(primary: str, problems: Sequence[Exception | None]) -> Exception:
    """Return why no Sentinel names a primary: a refusal before what time may change."""
    known = [problem for problem in problems if problem is not None]
    refused = [each for each in known if not _passes(each)]
    if refused and len(known) == len(problems):
        error = MasterNotFoundError(f"a Sentinel refuses: {refused[0]}")
        error.__cause__ = refused[0]
    elif known:
        error = MasterNotFoundError(f"no Sentinel knows a primary {primary} that is up: {known[0]}")
        error.__cause__ = known[0]
    else:
        problem = f"the Sentinels watch no primary with the name {primary}"
        return WrongServerError(problem, "correct the name in NIGHTMILL_REDIS_URL, after the hosts")
    return error
