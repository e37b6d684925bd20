"""The page of all batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from nightmill_gateway.console.pages import render, see_other

if TYPE_CHECKING:
    from nightmill_gateway.services import Services


class BatchPages:
    """The handlers, over connections that are open while they are used."""

    def __init__(self, services: Services) -> None:
        """Take the connections."""
        self._services = services

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get("/", self._first), web.get("/batches", self._list)]

    async def _first(self, _: web.Request) -> web.Response:
        return see_other("/batches")

    async def _list(self, request: web.Request) -> web.Response:
        return render(request, "batches/list.html")
