"""The page of lanes: what limits each and why, its window over time, and stopped accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from nightmill.reports.lanes import UNITS
from nightmill_gateway.access.caller import ALL, CALLER
from nightmill_gateway.answers.errors import ApiError
from nightmill_gateway.console import charts
from nightmill_gateway.console.access import require_all
from nightmill_gateway.console.fleet import pictures
from nightmill_gateway.console.forms import FORM
from nightmill_gateway.console.pages import render, see_other

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightmill.reports.history import History
    from nightmill.reports.lanes import Look
    from nightmill_gateway.console.audited import Audited
    from nightmill_gateway.console.live.histories import Histories
    from nightmill_gateway.console.live.snapshot import Snapshots
    from nightmill_gateway.services import Services

UNUSED_S: Final = 86_400.0
"""A lane that was not used for so long is left out, seconds."""
CHARTED: Final = 6
"""Lanes with charts: those with the most calls in flight."""


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """How much of one limit a lane uses."""

    name: str
    rate: float
    """Units a minute, over the last seconds."""
    limit: float | None
    used: float | None
    source: str
    """Where the limit is from."""


def uses_of(look: Look) -> list[Use]:
    """Return the use of each dimension of a lane's limits."""
    return [
        Use(
            name=UNITS[each],
            rate=look.rate(each),
            limit=look.now.limit(each),
            used=look.used(each),
            source="reported" if each in look.now.hot.reported else "learned or configured",
        )
        for each in pictures.DIMENSIONS
    ]


class LanePages:
    """The handlers, over connections that are open while they are used."""

    def __init__(
        self, services: Services, snapshots: Snapshots, histories: Histories, audited: Audited
    ) -> None:
        """Take the connections, what is read once for all tabs, and what does actions."""
        self._audited = audited
        self._services = services
        self._snapshots = snapshots
        self._histories = histories

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.get("/lanes", self._page), web.post("/lanes/again", self._again)]

    async def _page(self, request: web.Request) -> web.Response:
        require_all(request[CALLER])
        snapshot = await self._snapshots.now()
        period = charts.PERIODS.get(request.query.get("period", ""), charts.HOUR)
        history = await self._histories.read(period)
        used = [look for look in snapshot.looks if look.now.idle_s < UNUSED_S]
        used.sort(key=lambda look: (-look.now.in_flight, look.now.name))
        stops = snapshot.view.stops
        return render(
            request,
            "fleet/lanes.html",
            looks=used,
            unused=len(snapshot.looks) - len(used),
            uses={_key(look): uses_of(look) for look in used},
            pictures=_pictures(used[:CHARTED], history, period),
            accounts=stops.accounts,
            held=[lane for lane in stops.lanes if lane.account not in stops.accounts],
            hosts={look.now.account: look.now.endpoint for look in snapshot.looks},
            workers=len(stops.workers),
            period=period,
            periods=tuple(charts.PERIODS.values()),
        )

    async def _again(self, request: web.Request) -> web.Response:
        """Let a stopped account and its stopped lanes send one job each as a trial."""
        require_all(request[CALLER])
        account = request[FORM]["account"]
        if account not in {look.now.account for look in (await self._snapshots.now()).looks}:
            raise ApiError(404, f"account: given {account!a:.80}; allowed: one that is listed")
        target = f"{ALL}{account}"
        found = await self._audited.run(
            request[CALLER], "try again", [target], lambda _: self._try(account)
        )
        outcome = found[target]
        if isinstance(outcome, Exception):
            raise outcome
        return see_other("/lanes", outcome)

    async def _try(self, account: str) -> str:
        stopped, lanes = await self._services.batches.try_account_again(account)
        if not stopped and not lanes:
            return "Nothing of this account is stopped any more."
        return "One job is sent as a trial. Its answer decides what goes on."


def _key(look: Look) -> tuple[str, str]:
    return look.now.account, look.now.model


def _pictures(
    looks: Sequence[Look], history: History, period: charts.Period
) -> dict[tuple[str, str], list[object]]:
    known = {(lane.account, lane.model): lane for lane in history.lanes}
    return {
        _key(look): list(pictures.of_lane(f"lane{n}", known[_key(look)], period))
        for n, look in enumerate(looks)
        if _key(look) in known
    }
