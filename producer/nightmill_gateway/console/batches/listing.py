"""Which batches a page lists, in which order. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, NamedTuple, Self
from urllib.parse import quote, urlencode

import msgspec
from markupsafe import escape

from nightmill.queue.keys import SINGLES
from nightmill_gateway.access.caller import ALL
from nightmill_gateway.console.access import may_see, tenant_of
from nightmill_gateway.console.formats import printed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nightmill.records.counts import Counts
    from nightmill.reports.view import View
    from nightmill_gateway.access.caller import Caller

PER_PAGE: Final = 50
ROOM: Final = 160_000
"""What the lines of a page may weigh, bytes: a page has 200 kB."""
LINE: Final = 1_200
"""What a line weighs at most beside its name and its reason, bytes."""
MAX_WHY: Final = 200
"""Longest reason that is shown, characters."""
STATES: Final = (
    *("running", "feeding", "waiting", "stopped", "paused", "paused: budget"),
    *("done", "cancelled", "expired"),
)
"""The states of a batch, those that need a person's eye among the first."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One batch in the list."""

    name: str
    tenant: str
    state: str
    counts: Counts
    rate: float | None
    eta_s: float | None
    why: str
    """Why it does not go on, "" when it does."""

    @property
    def total(self) -> int:
        """Its jobs, as far as they are known."""
        return max(self.counts.accepted, self.counts.total or 0)

    @property
    def parts(self) -> list[tuple[int, str]]:
        """Its progress as the parts of a bar."""
        counts = self.counts
        return [
            (counts.succeeded, "good"),
            (counts.failed, "bad"),
            (counts.cancelled + counts.expired, "warn"),
            (counts.in_flight, "busy"),
        ]


_SORTS: Final[Mapping[str, Callable[[Line], tuple[object, ...]]]] = {
    "name": lambda line: (line.name,),
    "state": lambda line: (STATES.index(line.state) if line.state in STATES else 99,),
    "done": lambda line: (-(line.counts.terminal / line.total if line.total else 0),),
    "failed": lambda line: (-line.counts.failed,),
    "rate": lambda line: (-(line.rate or 0),),
    "eta": lambda line: (line.eta_s is None, line.eta_s or 0),
    "cost": lambda line: (-(line.counts.cost or 0),),
    "weight": lambda line: (-line.counts.limits.weight,),
    "created": lambda line: (-(line.counts.created_at or 0),),
}
SORTS: Final = tuple(_SORTS)
_RISING: Final = frozenset({"name", "state", "eta"})
"""Those that show the smallest first, unless they are turned."""


class Filter(NamedTuple):
    """What a person asked for; an empty text asks for nothing."""

    search: str = ""
    state: str = ""
    tenant: str = ""
    since: str = ""
    until: str = ""
    sort: str = "created"
    turned: bool = False
    """Whether the order is the other way round."""
    page: int = 1

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Self:
        """Read a query. What cannot be read asks for nothing."""
        sort = given.get("sort", "created")
        page = given.get("page", "1")
        return cls(
            search=given.get("search", "").strip()[:512],
            state=given.get("state", "") if given.get("state") in STATES else "",
            tenant=given.get("tenant", "").strip()[:64],
            since=given.get("since", "") if _day(given.get("since", "")) else "",
            until=given.get("until", "") if _day(given.get("until", "")) else "",
            sort=sort if sort in _SORTS else "created",
            turned=given.get("turned") == "1",
            page=int(page) if page.isascii() and page.isdecimal() and len(page) < 7 else 1,  # noqa: PLR2004
        )

    @property
    def narrows(self) -> bool:
        """Whether it leaves any batch out."""
        return any((self.search, self.state, self.tenant, self.since, self.until))

    def query(self, **changed: object) -> str:
        """Return the query that asks for this, with some parts changed."""
        parts = self._replace(**changed)._asdict()  # type: ignore[arg-type]
        default = Filter()._asdict()
        return urlencode(
            {
                name: int(value) if isinstance(value, bool) else value
                for name, value in parts.items()
                if value != default[name]
            }
        )

    def sorted_by(self, name: str) -> str:
        """Return the query that sorts by a column; the other way round for the present one."""
        return self.query(sort=name, turned=name == self.sort and not self.turned, page=1)

    @property
    def rises(self) -> bool:
        """Whether the smallest stands first."""
        return (self.sort in _RISING) is not self.turned

    def has(self, line: Line) -> bool:
        """Tell whether the list has this batch."""
        at, since, until = line.counts.created_at, _day(self.since), _day(self.until)
        return (
            self.search.casefold() in line.name.casefold()
            and self.state in ("", line.state)
            and self.tenant in ("", line.tenant)
            and (since is None or (at or 0) >= since)
            and (until is None or (at or 0) < until + int(timedelta(days=1).total_seconds()) * 1000)
        )


class Listing(NamedTuple):
    """One page of the list."""

    lines: list[Line]
    """Those of the page."""
    matching: list[str]
    """The names of all that the filter has."""
    known: int
    """How many batches the caller sees without a filter."""
    page: int
    pages: int


def listing(view: View, caller: Caller, wanted: Filter) -> Listing:
    """Return the page that a caller asked for."""
    names = [name for name in view.counts if name != SINGLES and may_see(caller, name)]
    lines = [line for name in names if wanted.has(line := line_of(view, name))]
    lines.sort(key=lambda line: line.name)
    lines.sort(key=_SORTS[wanted.sort], reverse=wanted.turned)
    pages = _pages(lines)
    page = min(max(1, wanted.page), len(pages))
    return Listing(pages[page - 1], [line.name for line in lines], len(names), page, len(pages))


def _pages(lines: list[Line]) -> list[list[Line]]:
    """Return the lines of each page: PER_PAGE, or fewer with names that are long."""
    pages: list[list[Line]] = [[]]
    room = ROOM
    for line in lines:
        weight = _weight(line)
        if len(pages[-1]) == PER_PAGE or (pages[-1] and weight > room):
            pages.append([])
            room = ROOM
        pages[-1].append(line)
        room -= weight
    return pages


def _weight(line: Line) -> int:
    """Return what a line weighs at most, bytes: its name is text, twice a value, and in a link."""
    name = line.name
    values = 2 * printed(name) + len(escape(name).encode())
    return LINE + printed(name) + values + len(quote(name)) + printed(line.why)


def line_of(view: View, name: str) -> Line:
    """Return one batch of a view."""
    counts, state = view.counts[name], view.state(name)
    why = view.stopped(name) or counts.reason or counts.gap
    if state == "waiting" and not why:
        why = "no worker is running for its jobs"
    return Line(
        name=name,
        tenant=tenant_of(name),
        state=state,
        counts=counts,
        rate=view.rates.get(name),
        eta_s=view.eta_s(name),
        why=why[:MAX_WHY],
    )


def tenants(view: View, caller: Caller) -> list[str]:
    """Return the tenants that a caller can choose among; none when it sees one only."""
    if caller.tenant != ALL:
        return []
    return sorted({tenant_of(name) for name in view.counts if name != SINGLES})


def _day(text: str) -> int | None:
    """Return the start of a day such as 2026-01-31, epoch ms UTC; None when it is no day."""
    try:
        return int(datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        return None
