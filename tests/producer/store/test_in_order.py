"""A page of rows is read in the order of an index, whatever PostgreSQL knows of the batch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from nightmill.records.place import Place
from nightmill.records.state import JobState
from nightmill.store import batches, browse, endings, message_batches, report_rows, statements

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from nightmill.store import ResultStore
    from nightmill.store.connection import Connection

PLACE = Place(5, "night:a")
FAILED = {JobState.FAILED}
PAGES: dict[str, Callable[[Any], object]] = {
    "report": lambda c: report_rows.page(c, "night", (5, "night:a")),
    "results": lambda c: statements.page(c, "night", PLACE, statuses=None, ordered=True),
    "failed": lambda c: statements.page(c, "night", PLACE, statuses=FAILED, ordered=False),
    "errors": lambda c: endings.failed_page(c, "night", (5, "night:a")),
    "newest failures": lambda c: endings.newest_failures(c, "night", 5),
    "ids": lambda c: batches.ids(c, "night", batches.Mark(5, "night:a")),
    "newest": lambda c: browse._newest(c, "night", 10, PLACE),
    "with an id": lambda c: browse._with_id(c, "night", "a", 10),
    "search": lambda c: browse._look_for(c, "night", "text", PLACE),
    "figures": lambda c: browse._figures(c, "night"),
    "stops": lambda c: browse._stops(c, "night"),
    "requests": lambda c: message_batches._requests(c, "night", 5),
    "ends": lambda c: message_batches._ends(c, "night", (5, "night:a")),
}


class Explained(NamedTuple):
    """A connection that keeps the plan of each query."""

    connection: Connection
    plans: list[str]
    dialect: str = "postgresql"

    def rows(self, sql: str, values: Mapping[str, object] | None = None) -> Sequence[Sequence[Any]]:
        """Run the query."""
        self._explain(sql, values)
        return self.connection.rows(sql, values or {})

    def named(self, sql: str, values: Mapping[str, object] | None = None) -> Sequence[Any]:
        """Run the query."""
        self._explain(sql, values)
        return self.connection.named(sql, values or {})

    def _explain(self, sql: str, values: Mapping[str, object] | None) -> None:
        if "ORDER BY" in sql:
            plan = self.connection.rows(f"EXPLAIN {sql}", values or {})
            self.plans.append("\n".join(str(line) for (line,) in plan))


@pytest.fixture
def where(new_database: str) -> str:
    """Return a new database's URL: without rows, and without statistics."""
    return new_database


async def test_no_page_is_sorted(store: ResultStore) -> None:
    """A page of a new batch sorted all rows behind it: a report of 1,000,000 rows took 75 s."""
    for name, read in PAGES.items():
        plans: list[str] = []
        await store.database.run(lambda each, read=read, into=plans: read(Explained(each, into)))  # type: ignore[misc]
        assert plans, name
        for plan in plans:
            assert not re.search(r"\bSort\b", plan), f"{name}: {plan}"
            assert "Seq Scan on results" not in plan, f"{name}: {plan}"
