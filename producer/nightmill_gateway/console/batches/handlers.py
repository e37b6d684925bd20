"""The page of all batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from nightmill.reports.progress import counted
from nightmill_gateway.access.caller import CALLER
from nightmill_gateway.console.batches.listing import SORTS, STATES, Filter, listing, tenants
from nightmill_gateway.console.pages import render

if TYPE_CHECKING:
    from nightmill_gateway.console.looks import Looks


class BatchPages:
    """The handlers, over connections that are open while they are used."""

    def __init__(self, looks: Looks) -> None:
        """Take what looks at batches."""
        self._looks = looks

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get("/batches", self._list)]

    async def _list(self, request: web.Request) -> web.Response:
        caller, wanted = request[CALLER], Filter.of(request.query)
        view = await self._looks.all()
        found = listing(view, caller, wanted)
        return render(
            request,
            "batches/list.html",
            wanted=wanted,
            found=found,
            sorts=SORTS,
            states=STATES,
            tenants=tenants(view, caller),
            matching=counted(len(found.matching), "batch").replace("batchs", "batches"),
            workers=len(view.stops.workers),
            troubles=(*view.crashes, *view.troubles),
        )
