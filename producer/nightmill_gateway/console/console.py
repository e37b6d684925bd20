"""The console as a part of the application: its routes, and which requests are for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from aiohttp import web

from nightmill_gateway.console import assets
from nightmill_gateway.console.audited import Audited
from nightmill_gateway.console.batches.acting import BatchActions
from nightmill_gateway.console.batches.changes import Changes
from nightmill_gateway.console.batches.handlers import BatchPages
from nightmill_gateway.console.batches.one import BatchPage
from nightmill_gateway.console.entrance import Entrance
from nightmill_gateway.console.fleet.lanes import LanePages
from nightmill_gateway.console.fleet.workers import WorkerPages
from nightmill_gateway.console.jobs.handlers import JobPages
from nightmill_gateway.console.live.events import EVENTS, Events
from nightmill_gateway.console.live.histories import Histories
from nightmill_gateway.console.live.snapshot import Snapshots
from nightmill_gateway.console.looks import Looks
from nightmill_gateway.console.overview import Overview
from nightmill_gateway.console.page_limit import begins
from nightmill_gateway.console.pages import add_headers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from nightmill_gateway.access.caller import Access
    from nightmill_gateway.services import Services

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

API: tuple[str, ...] = ("/v1/", "/healthz", "/readyz")
"""How paths of the API begin; their errors are JSON, also for a browser."""


class Pages(Protocol):
    """A group of pages."""

    def routes(self) -> Iterable[web.RouteDef]:
        """Return their routes."""
        ...


def _pages(services: Services, app: web.Application) -> list[Pages]:
    """Return all groups of pages. A new page is added here."""
    looks, audited, changes = Looks(services), Audited(services), Changes(services)
    snapshots, histories = Snapshots(services, looks), Histories(services)
    events = app[EVENTS] = Events(services, snapshots)
    app.cleanup_ctx.extend((changes.running, events.running))
    app.on_shutdown.append(events.shutdown)
    return [
        Overview(services, snapshots, histories),
        BatchPages(looks),
        BatchPage(services, looks),
        BatchActions(looks, changes, audited),
        JobPages(services, audited),
        LanePages(services, snapshots, histories, audited),
        WorkerPages(snapshots),
        audited,
        events,
    ]


class Console:
    """The web console."""

    def __init__(self, services: Services, access: Access) -> None:
        """Take the connections, and who may call."""
        self._entrance = Entrance(services, access)
        self._services = services
        self._resources: set[web.AbstractResource | None] = set()

    def add_to(self, app: web.Application) -> None:
        """Add the routes and the headers of the console."""
        groups = [self._entrance, *_pages(self._services, app)]
        for routes in (assets.routes(), *(group.routes() for group in groups)):
            self._resources.update(route.resource for route in app.add_routes(routes))
        app.on_response_prepare.append(self._add_headers)

    def serves(self, request: web.Request) -> bool:
        """Tell whether a request is for a page; a path without a route, when a browser asks."""
        found = request.match_info
        if found.http_exception is None:
            return found.route.resource in self._resources
        browser = "text/html" in request.headers.get("accept", "")
        return browser and not request.path.startswith(API)

    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Return the answer to a request that is for a page."""
        return await self._entrance.answer(request, handler)

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        if self.serves(request):
            begins(request)
            add_headers(response.headers)
