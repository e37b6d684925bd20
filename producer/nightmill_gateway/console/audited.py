"""Actions with their lines in the audit log, and the page of that log."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

from nightmill.errors import NightmillError
from nightmill.records.job import now_ms
from nightmill.store.audit import AuditLine, AuditLog, new_id
from nightmill_gateway.access.caller import ALL, CALLER
from nightmill_gateway.answers.log import report
from nightmill_gateway.console.access import tenant_of
from nightmill_gateway.console.pages import render

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from nightmill_gateway.access.caller import Caller
    from nightmill_gateway.services import Services

AT_ONCE: Final = 8
"""Things that one action changes at the same time."""
PER_PAGE: Final = 25
BROKE_OFF: Final = "broke off: the gateway stopped; it can be done again"
THIS_MACHINE: Final = "this machine"
"""Who acts where no key is needed."""


class Audited:
    """Does actions. Each has its line in the audit log before it begins."""

    def __init__(self, services: Services) -> None:
        """Take connections that are open while this is used."""
        self._log = AuditLog(services.store)

    async def run(
        self,
        caller: Caller,
        action: str,
        targets: Sequence[str],
        work: Callable[[str], Awaitable[str]],
        *,
        detail: str = "",
    ) -> dict[str, NightmillError | str]:
        """Do `work` with each target; return target -> the outcome that it gave, or its error.

        A target is a batch or a job, or begins with "*" when it is all tenants' (see tenant_of).
        """
        now = now_ms()
        lines = {target: _line(caller, action, target, detail, now) for target in targets}
        await self._log.begin([*lines.values()])
        found: dict[str, NightmillError | str] = {}
        places = asyncio.Semaphore(AT_ONCE)

        async def one(target: str) -> None:
            async with places:
                try:
                    found[target] = await work(target)
                except NightmillError as error:
                    found[target] = error

        try:
            async with asyncio.TaskGroup() as group:
                for target in targets:
                    group.create_task(one(target))
        finally:
            await self._end({line.id: found.get(target) for target, line in lines.items()})
        return found

    async def _end(self, outcomes: dict[str, NightmillError | str | None]) -> None:
        texts = {line: _outcome(each) for line, each in outcomes.items()}
        try:
            await asyncio.shield(self._log.end(texts))
        except NightmillError as error:  # the action is done, and its line says that it ran
            report("the audit log", error)

    def routes(self) -> list[web.RouteDef]:
        """Return the route of the page."""
        return [web.get("/audit", self._page)]

    async def _page(self, request: web.Request) -> web.Response:
        caller, about = request[CALLER], request.query.get("about", "")
        lines = await self._log.page(
            PER_PAGE + 1,
            tenant=None if caller.tenant == ALL else caller.tenant,
            target=about or None,
            before=request.query.get("before"),
        )
        older = lines[PER_PAGE - 1].id if len(lines) > PER_PAGE else ""
        return render(request, "audit.html", lines=lines[:PER_PAGE], older=older, about=about)


def _line(caller: Caller, action: str, target: str, detail: str, at: int) -> AuditLine:
    return AuditLine(
        id=new_id(at),
        at=at,
        tenant=ALL if target.startswith(ALL) else tenant_of(target),
        key_id=caller.key_id,
        who=caller.name or THIS_MACHINE,
        action=action,
        target=target,
        detail=detail,
    )


def _outcome(found: NightmillError | str | None) -> str:
    if found is None:
        return BROKE_OFF
    return f"not done: {found}" if isinstance(found, NightmillError) else found
