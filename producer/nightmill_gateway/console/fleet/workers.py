"""The page of workers: which processes run, where, of which version, and with how much memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from nightmill_gateway.access.caller import CALLER
from nightmill_gateway.console.access import require_all
from nightmill_gateway.console.pages import render

if TYPE_CHECKING:
    from nightmill_gateway.console.live.snapshot import Snapshots


class WorkerPages:
    """The handler."""

    def __init__(self, snapshots: Snapshots) -> None:
        """Take what is read once for all tabs."""
        self._snapshots = snapshots

    def routes(self) -> list[web.RouteDef]:
        """Return the route."""
        return [web.get("/workers", self._page)]

    async def _page(self, request: web.Request) -> web.Response:
        require_all(request[CALLER])
        snapshot = await self._snapshots.now()
        workers = snapshot.workers
        versions = sorted({facts.version or "unknown" for _, facts in workers})
        return render(
            request,
            "fleet/workers.html",
            workers=workers,
            hosts=len({facts.host for _, facts in workers}),
            versions=versions,
            memory=sum(facts.memory for _, facts in workers),
            running=sum(worker.running for worker, _ in workers),
            most=sum(facts.most for _, facts in workers),
            crashes=snapshot.view.crashes,
            troubles=snapshot.view.troubles,
            waits=snapshot.jobs_wait,
        )
