"""Bounded reads of a batch, over both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightmill.records.place import Place
from nightmill.records.state import JobState
from nightmill.store.browse import Browser
from tests.producer.store.databases import OnPostgreSQL, OnSQLite
from tests.producer.store.samples import FAILED, SUCCEEDED, numbered

if TYPE_CHECKING:
    from nightmill.store import ResultStore


class Conformance:
    """The tests; a subclass says where the store is."""

    async def test_the_newest_first_from_a_place_on(self, store: ResultStore) -> None:
        """A page of results goes on exactly where the last one ended."""
        await store.record([numbered(n, finished_at=n // 2) for n in range(1, 7)])
        browser = Browser(store)
        rows = await browser.newest("night", 99)
        assert [row.seq for row in rows] == [6, 5, 4, 3, 2, 1]
        place = Place(rows[2].finished_at, rows[2].job_id)
        assert [row.seq for row in await browser.newest("night", 2, place)] == [3, 2]

    async def test_ids_texts_and_groups(self, store: ResultStore) -> None:
        """No letter of a search is a wildcard."""
        await store.record([SUCCEEDED, FAILED, numbered(70)])
        browser = Browser(store)
        assert [row.custom_id for row in await browser.with_id("night", "line-7", 9)] == [
            *("line-7", "line-70")
        ]
        assert await browser.with_id("night", "%", 9) == []
        looked = await browser.look_for("night", "max_tokens: 0", None)
        assert [row.job_id for row in looked.found] == [FAILED.job_id]
        assert (looked.rows, looked.end) == (3, None)
        assert (await browser.look_for("night", "max%", None)).found == []
        assert [(number, job) for _, number, job in await browser.errors("night")] == [
            (1, FAILED.job_id)
        ]
        assert len(await browser.figures("night")) == 3
        assert JobState.FAILED in {status for status, *_ in await browser.stops("night")}


class TestSQLite(OnSQLite, Conformance):
    """SQLite."""


class TestPostgreSQL(OnPostgreSQL, Conformance):
    """PostgreSQL."""
