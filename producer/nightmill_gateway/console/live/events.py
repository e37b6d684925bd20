"""`/events`: a stream of server-sent events. One poller tells all tabs of this process.

An event has no data: a page that gets one fetches itself again, with its own session.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aiohttp import web

from nightmill_gateway.access.caller import CALLER
from nightmill_gateway.answers.errors import ApiError
from nightmill_gateway.console.live.topics import Topic, digest, read_jobs, topic_of
from nightmill_gateway.loops import looping

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from nightmill_gateway.console.live.snapshot import Snapshots
    from nightmill_gateway.services import Services

LOOK_S: Final = 0.8
"""Between two looks, seconds. With the fetch of the page, an update is at most 2 s behind."""
PING_S: Final = 15.0
"""A stream without an event gets a comment so often, seconds: proxies close idle connections."""
LIFE_S: Final = 300.0
"""A stream ends then, and the browser connects again with its session, seconds."""
MOST: Final = 500
"""Streams of one process."""
CHANGED: Final = b"event: change\ndata:\n\n"
PING: Final = b":\n\n"
RETRY: Final = b"retry: 1000\n\n"


class Events:
    """The tabs that watch, and the poller that runs while there are some."""

    def __init__(self, services: Services, snapshots: Snapshots) -> None:
        """Use connections that are open while it runs."""
        self._services = services
        self._snapshots = snapshots
        self._watched: dict[Topic, set[asyncio.Event]] = {}
        self._known: dict[asyncio.Event, int] = {}
        self._some = asyncio.Event()
        self._stopped = False
        self.looks = 0
        """How often the poller has looked."""

    @property
    def tabs(self) -> int:
        """How many streams are open."""
        return sum(map(len, self._watched.values()))

    def routes(self) -> list[web.RouteDef]:
        """Return the route."""
        return [web.get("/events", self._stream, allow_head=False)]

    async def running(self, _: web.Application) -> AsyncIterator[None]:
        """Look for the life of an application."""
        async with looping("live pages", self._turn):
            yield

    async def shutdown(self, _: web.Application) -> None:
        """End all streams: a gateway that stops waits for its requests."""
        self._stopped = True
        for changed in {each for some in self._watched.values() for each in some}:
            changed.set()

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        topic = topic_of(request.query.get("of", ""), request[CALLER])
        if self.tabs >= MOST:
            raise ApiError(503, f"{MOST} tabs are live already: reload to see what is new")
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        )
        await response.prepare(request)
        changed = asyncio.Event()
        self._watched.setdefault(topic, set()).add(changed)
        self._some.set()
        try:
            await response.write(RETRY)
            async with asyncio.timeout(LIFE_S):
                while not self._stopped:
                    found = await _within(changed, PING_S)
                    changed.clear()  # before the write: a change meanwhile is sent next
                    await response.write(CHANGED if found else PING)
        except (TimeoutError, ConnectionError):
            pass
        finally:
            self._known.pop(changed, None)
            self._watched[topic].discard(changed)
            if not self._watched[topic]:
                del self._watched[topic]
        return response

    async def _turn(self) -> float:
        if not self._watched:
            self._some.clear()
            await self._some.wait()
        await self._look()
        return LOOK_S

    async def _look(self) -> None:
        """Tell the tabs whose topics have changed since they were told, and those that are new.

        A new tab shows what was there before this look, so it may have missed a change.
        """
        self.looks += 1
        snapshot = await self._snapshots.now()
        ids = [topic.name for topic in self._watched if topic.kind == "job"]
        jobs = await read_jobs(self._services, ids)
        for topic, tabs in self._watched.items():
            found = digest(topic, snapshot, jobs)
            for changed in tabs:
                if self._known.get(changed) != found:
                    self._known[changed] = found
                    changed.set()


EVENTS: Final = web.AppKey("events", Events)
"""The key in an application of its Events."""


async def _within(changed: asyncio.Event, within_s: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            await changed.wait()
            return True
    return False
