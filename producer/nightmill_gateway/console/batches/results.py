"""The results of one batch on its page: the newest, by id, or by text; and all as a download."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from nightmill.errors import InvalidParamsError
from nightmill.records.place import Place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nightmill.records.result import Result
    from nightmill.store.browse import Browser

PER_PAGE: Final = 25
ROOM: Final = 30_000
"""What the ids of a page's results may weigh, bytes: a page has 200 kB."""
LOOK_S: Final = 0.7
"""How long a search for text looks before it shows what it has, seconds."""
EXCERPT: Final = 160
"""Shown of an answer, characters."""


class Asked(NamedTuple):
    """What is searched for; both empty: the newest."""

    id: str
    text: str
    before: Place | None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Asked:
        """Read a query; a place that cannot be read is none."""
        try:
            before = Place.of_cursor(query["before"]) if query.get("before") else None
        except InvalidParamsError:
            before = None
        return cls(query.get("id", "").strip()[:512], query.get("text", "").strip()[:200], before)


class Shown(NamedTuple):
    """The results on a page."""

    rows: list[Result]
    more: str
    """The cursor of the next page, "" when there is none."""
    looked: int | None = None
    """Through how many results a search for text looked."""
    cut: bool = False
    """Whether a search by id found more than the page shows."""


async def shown(browser: Browser, batch: str, asked: Asked) -> Shown:
    """Return the results that were asked for. The work is bounded, whatever the batch has."""
    if asked.id:
        rows = await browser.with_id(batch, asked.id, PER_PAGE + 1)
        most = _fitting(rows)
        return Shown(rows[:most], "", cut=len(rows) > most)
    if asked.text:
        return await _with_text(browser, batch, asked)
    rows = await browser.newest(batch, PER_PAGE + 1, asked.before)
    most = _fitting(rows)
    more = _place(rows[most - 1]).cursor if len(rows) > most else ""
    return Shown(rows[:most], more)


def _fitting(rows: Sequence[Result]) -> int:
    """Return how many results a page has: PER_PAGE, or fewer with ids that are long."""
    room = ROOM
    for n, row in enumerate(rows[:PER_PAGE]):
        room -= len(quote(row.job_id))  # as it stands in a link
        if room < 0:
            return max(1, n)
    return PER_PAGE


async def _with_text(browser: Browser, batch: str, asked: Asked) -> Shown:
    until, looked, place = time.monotonic() + LOOK_S, 0, asked.before
    found: list[Result] = []
    while True:
        step = await browser.look_for(batch, asked.text, place)
        found, looked, place = [*found, *step.found], looked + step.rows, step.end
        if len(found) > PER_PAGE:
            most = _fitting(found)
            return Shown(found[:most], _place(found[most - 1]).cursor, looked)
        if place is None or time.monotonic() > until:
            return Shown(found, place.cursor if place else "", looked)


def _place(row: Result) -> Place:
    return Place(row.finished_at, row.job_id)


def excerpt(row: Result) -> str:
    """Return the start of an answer, or why there is none."""
    if row.error is not None:
        return f"{row.error.type}: {row.error.message}"[:EXCERPT]
    text = row.message.text if row.message is not None else ""
    return " ".join(text[: EXCERPT * 4].split())[:EXCERPT]


def headers_of(batch: str) -> dict[str, str]:
    """Return the headers of the download of a batch's results."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", batch).strip("-.")[:80] or "results"
    return {
        "Content-Type": "application/x-ndjson",
        "Content-Disposition": f'attachment; filename="{name}.jsonl"',
    }
