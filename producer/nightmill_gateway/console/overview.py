"""The first page: how it goes, how long it takes, what it costs, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from nightmill_gateway.access.caller import ALL, CALLER
from nightmill_gateway.console import charts
from nightmill_gateway.console.fleet import pictures
from nightmill_gateway.console.live.sums import day_of, of_counts, of_intervals
from nightmill_gateway.console.live.topics import sees
from nightmill_gateway.console.pages import render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nightmill.records.counts import Counts
    from nightmill.records.result import ErrorInfo
    from nightmill_gateway.console.live.histories import Histories
    from nightmill_gateway.console.live.snapshot import Snapshot, Snapshots
    from nightmill_gateway.services import Services

RUNNING: Final = 12
"""Batches that are not over, on this page."""
FAILURES: Final = 8
"""Failures on this page."""
ASKED: Final = 8
"""Batches whose newest failures are looked for: those that are not over come first."""


class Now(msgspec.Struct, frozen=True, kw_only=True):
    """What runs at one moment, over all batches that a caller sees."""

    rate: float
    """Jobs that end a second."""
    in_flight: int
    waiting: int
    window: int | None
    """Calls that all lanes allow; None for a caller of one tenant."""
    limit_used: float | None
    """The largest share of a limit that a lane uses, 0 to 1; None when no limit is known."""
    limited: str
    """The lane and the dimension of that limit."""
    running: int
    """Batches that are not over."""


def now_of(snapshot: Snapshot, seen: Sequence[str], *, lanes: bool) -> Now:
    """Return what runs; `lanes`: the caller sees those, too."""
    view = snapshot.view
    counts = [view.counts[name] for name in seen]
    looks = [look for look in snapshot.looks if look.now.in_flight or look.limited_by != "nothing"]
    used = [
        (share, f"{dimension}, {look.now.name}")
        for look in snapshot.looks
        for dimension in pictures.DIMENSIONS
        if (share := look.used(dimension)) is not None
    ]
    most, limited = max(used, default=(None, ""))
    return Now(
        rate=sum(view.rates.get(name, 0.0) for name in seen),
        in_flight=sum(each.in_flight for each in counts),
        waiting=sum(each.waiting for each in counts),
        window=sum(look.now.orders.window for look in looks) if lanes else None,
        limit_used=most if lanes else None,
        limited=limited if lanes else "",
        running=sum(1 for name in seen if name and not view.counts[name].over),
    )


def ordered(view_counts: dict[str, Counts], seen: Sequence[str]) -> list[str]:
    """Return the batches that are not over: those with calls in flight first."""
    going = [name for name in seen if name and not view_counts[name].over]
    return sorted(going, key=lambda name: (-view_counts[name].in_flight, name))


class Overview:
    """The handler, over connections that are open while it is used."""

    def __init__(self, services: Services, snapshots: Snapshots, histories: Histories) -> None:
        """Take the connections and what is read once for all tabs."""
        self._services = services
        self._snapshots = snapshots
        self._histories = histories

    def routes(self) -> list[web.RouteDef]:
        """Return the route."""
        return [web.get("/", self._page)]

    async def _page(self, request: web.Request) -> web.Response:
        caller = request[CALLER]
        snapshot = await self._snapshots.now()
        view = snapshot.view
        seen = [name for name in view.counts if sees(caller.tenant, name)]
        period = charts.PERIODS.get(request.query.get("period", ""), charts.HOUR)
        found = {
            each.name: await self._histories.seen(each, snapshot, caller.tenant)
            for each in charts.PERIODS.values()
        }
        history, intervals = found[period.name]
        lanes = history.lanes if caller.tenant == ALL else ()
        going = ordered(view.counts, seen)
        return render(
            request,
            "overview.html",
            view=view,
            workers=len(view.stops.workers),
            begun=any(view.counts[name].accepted for name in seen) or len(seen) > 1,
            now_=now_of(snapshot, seen, lanes=caller.tenant == ALL),
            all=of_counts(view.counts[name] for name in seen),
            hour=of_intervals(found[charts.HOUR.name][1]),
            day=of_intervals(
                day_of(found[charts.HOUR.name][0], found[charts.DAY.name][0], caller.tenant)
            ),
            going=going[:RUNNING],
            more=max(0, len(going) - RUNNING),
            failures=await self._failures(view.counts, seen),
            period=period,
            periods=tuple(charts.PERIODS.values()),
            pictures=pictures.of_fleet(intervals, lanes, period),
        )

    async def _failures(
        self, counts: dict[str, Counts], seen: Sequence[str]
    ) -> list[tuple[int, str, ErrorInfo]]:
        """Return the newest failures: when (epoch ms), the job's id, its error."""
        failed = [name for name in seen if counts[name].failed]
        asked = sorted(failed, key=lambda name: (counts[name].over, -counts[name].failed))[:ASKED]
        found = [
            failure
            for name in asked
            for failure in await self._services.store.newest_failures(name, FAILURES)
        ]
        return sorted(found, key=lambda each: -each[0])[:FAILURES]
