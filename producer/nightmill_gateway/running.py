"""One gateway process, from its settings to its end."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from nightmill.safety.logger import libraries_logged
from nightmill.store.access_keys import AccessKeys
from nightmill_gateway.access.caller import ByKey, OnThisMachine
from nightmill_gateway.answers.log import begin_log
from nightmill_gateway.app import make_app
from nightmill_gateway.server import listening
from nightmill_gateway.services import open_services
from nightmill_gateway.stopping import STOPPING

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Sequence

    from nightmill.settings import Settings
    from nightmill_gateway.access.caller import Access
    from nightmill_gateway.services import Services


def new_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop: uvloop's, where there is one."""
    try:
        import uvloop  # noqa: PLC0415 - not on every system
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


class Stop:
    """Whether this process is asked to stop, and whether at once: by signals."""

    def __init__(self) -> None:
        """Handle SIGTERM, which a service manager sends, and SIGINT, which is Ctrl-C."""
        self.asked = asyncio.Event()
        self.at_once = False
        """Whether no load balancer is waited for: a person stops it, or it is asked twice."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.ask, number)
        self.then: Callable[[], None] = _nothing

    def ask(self, number: int = signal.SIGTERM) -> None:
        """Ask it to stop, as the signal `number` does."""
        self.at_once = self.at_once or self.asked.is_set() or number == signal.SIGINT
        self.asked.set()
        self.then()


def _nothing() -> None:
    """Do nothing."""


async def serve(
    settings: Settings,
    sockets: Sequence[socket.socket],
    stop: Stop,
    *,
    insecure: bool,
    ready: Callable[[Access], Awaitable[None]],
) -> None:
    """Serve on `sockets` until `stop`; call `ready` once requests are taken."""
    begin_log(settings)
    async with AsyncExitStack() as stack:
        stack.enter_context(libraries_logged(settings))
        services = await stack.enter_async_context(open_services(settings))
        access = await access_of(services, insecure=insecure)
        app = make_app(services, access)
        stopping = app[STOPPING]
        async with listening(app, "", 0, grace_s=settings.grace_s, sockets=sockets):
            await ready(access)
            await stop.asked.wait()
            stop.then = lambda: stopping.begin(at_once=stop.at_once)
            stop.then()


async def access_of(services: Services, *, insecure: bool) -> Access:
    """Return who may call."""
    if insecure:
        return OnThisMachine()
    keys = AccessKeys(services.store)
    return ByKey(keys, await keys.secret())
