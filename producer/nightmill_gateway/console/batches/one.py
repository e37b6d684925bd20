"""The page of one batch."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode

from aiohttp import web

from nightmill.errors import BatchNotFoundError
from nightmill.export.lines import to_line
from nightmill.queue.keys import SINGLES
from nightmill.records.stop_reasons import counted_as, not_whole
from nightmill.reports.failures import grouped, stopped
from nightmill.reports.limits import describe
from nightmill.reports.progress import wasted
from nightmill.store.browse import FAILURES, NEWEST, Browser
from nightmill_gateway.access.caller import ALL, CALLER
from nightmill_gateway.answers.download import download
from nightmill_gateway.answers.errors import not_found
from nightmill_gateway.console.access import require_sees
from nightmill_gateway.console.batches.distributions import charts
from nightmill_gateway.console.batches.listing import line_of
from nightmill_gateway.console.batches.results import Asked, excerpt, headers_of, shown
from nightmill_gateway.console.pages import render

if TYPE_CHECKING:
    from nightmill.records.counts import Counts
    from nightmill.reports.failures import Failure
    from nightmill.reports.view import View
    from nightmill_gateway.console.looks import Looks
    from nightmill_gateway.services import Services

GROUPS: Final = 20
"""Groups of failures that are shown."""


class BatchPage:
    """The handlers, over connections that are open while they are used."""

    def __init__(self, services: Services, looks: Looks) -> None:
        """Take the connections, and what looks at batches."""
        self._store = services.store
        self._browser = Browser(services.store)
        self._looks = looks

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/batches/one", self._page),
            web.get("/batches/one/results.jsonl", self._download, allow_head=False),
        ]

    async def _page(self, request: web.Request) -> web.Response:
        name, view = await self._seen(request)
        line, asked = line_of(view, name), Asked.of(request.query)
        found, figures, failures = await asyncio.gather(
            shown(self._browser, name, asked),
            self._browser.figures(name),
            self._failures(name, line.counts),
        )
        return render(
            request,
            "batches/one.html",
            name=name,
            title=name or "Single jobs",
            line=line,
            view=view,
            limits=describe(line.counts.limits),
            wasted=wasted(line.counts),
            webhook=view.webhook(name),
            found=found,
            asked=asked,
            more=urlencode({"name": name, "text": asked.text, "before": found.more}),
            excerpt=excerpt,
            charts=charts(figures),
            figures=len(figures),
            newest=NEWEST,
            failures=failures,
            grouped=min(line.counts.failed, FAILURES),
        )

    async def _download(self, request: web.Request) -> web.StreamResponse:
        """Send all results of a batch as `nightmill results` writes them."""
        name, _ = await self._seen(request)
        return await download(
            request, headers_of(name), self._store.pages(name, ordered=True), to_line
        )

    async def _seen(self, request: web.Request) -> tuple[str, View]:
        """Return the batch that a page is about. Raises ApiError when it is not the caller's."""
        name, caller = request.query.get("name", ""), request[CALLER]
        try:
            view = await self._looks.one(name)
        except BatchNotFoundError:
            raise not_found(f'batch "{name:.80}"') from None
        if name == SINGLES and caller.tenant != ALL:  # those of all tenants are together
            raise not_found("batch")
        require_sees(caller, name)
        return name, view

    async def _failures(self, name: str, counts: Counts) -> list[Failure]:
        """Return failures, and answers that are not whole, by group; each with an example."""
        found = grouped(name, await self._browser.errors(name)) if counts.failed else []
        stops: dict[str, int] = not_whole(counts.stop_reasons)
        if stops:
            examples = {
                counted_as(status, stop): job
                for status, stop, job in await self._browser.stops(name)
            }
            found += [
                stopped(name, stop, number, examples.get(stop, ""))
                for stop, number in stops.items()
            ]
        return found[:GROUPS]
