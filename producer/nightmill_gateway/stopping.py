"""A gateway that stops: what it still takes, and when waiting clients get an error."""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from aiohttp import web

from nightmill_gateway.answers.errors import OVERLOADED, ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOOKS: Final = frozenset({"/healthz", "/readyz"})
"""Paths that a load balancer asks: they need no key, and are answered to the end."""
NOTICE_S: Final = 5.0
"""So long after SIGTERM it takes requests, if a load balancer asks /readyz; seconds."""
ASKED_S: Final = 60.0
"""A load balancer asks /readyz at least so often, seconds."""
TELL_S: Final = 2.0
"""So long before the end of GRACE_S waiting clients get an error, seconds."""
ENDLESS: Final = frozenset({"/events"})
"""Paths whose answers end only with the gateway: it does not wait for them."""
WRITE_S: Final = 1.0
"""The last part of GRACE_S, in which answers are written to their end, seconds."""
STOPS: Final = "this gateway stops: send it again"


class Stopping:
    """The stop of one gateway process, and the requests that are open meanwhile."""

    def __init__(self) -> None:
        """Begin with a gateway that runs."""
        self.begun = False
        """Whether /readyz answers 503."""
        self.refuses = False
        """Whether new requests are refused."""
        self._tell: list[Callable[[], None]] = []
        self._open = 0
        self._none = asyncio.Event()
        self._none.set()
        self._hurry = asyncio.Event()
        self._asked = float("-inf")

    def tell(self, callback: Callable[[], None]) -> None:
        """Call `callback` shortly before the requests that are open would be cut off."""
        self._tell.append(callback)

    def asked(self) -> None:
        """Note that somebody looks at /readyz. Raises ApiError while the gateway stops."""
        self._asked = time.monotonic()
        if self.begun:
            raise ApiError(503, "not ready: this gateway stops")

    @contextmanager
    def request(self, path: str) -> Iterator[None]:
        """Count a request as open for the length of the block.

        Raises ApiError when the gateway takes no more requests.
        """
        if path in LOOKS:
            yield
            return
        if self.refuses:
            raise stops()
        if path in ENDLESS:
            yield
            return
        self._open += 1
        self._none.clear()
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                self._none.set()

    def begin(self, *, at_once: bool = False) -> None:
        """Begin to stop; `at_once`: take no request that comes from now on."""
        self.begun = True
        if at_once:
            self._hurry.set()

    async def finish(self, grace_s: float) -> None:
        """Return when no request is open, or WRITE_S before `grace_s` seconds are over."""
        self.begin()
        if time.monotonic() - self._asked < ASKED_S:
            await _within(NOTICE_S, self._hurry)
        self.refuses = True
        loop = asyncio.get_running_loop()
        timers = [loop.call_later(max(0.0, grace_s - TELL_S), each) for each in self._tell]
        await _within(max(0.0, grace_s - WRITE_S), self._none)
        for timer in timers:
            timer.cancel()


STOPPING: Final = web.AppKey("stopping", Stopping)
"""The key in an application of its Stopping."""


def stops() -> ApiError:
    """Return the error of a request to a gateway that stops."""
    return ApiError(OVERLOADED, STOPS, {"retry-after": "1"})


async def _within(seconds: float, event: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
