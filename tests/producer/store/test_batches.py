"""The tables of whole batches and of the store's identity, over both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightmill.records.id_set import IdSet
from nightmill.store import ResultStore
from tests.producer.store.batches_conformance import BatchesConformance
from tests.producer.store.databases import OnPostgreSQL, OnSQLite

if TYPE_CHECKING:
    from pathlib import Path


class TestSQLite(OnSQLite, BatchesConformance):
    """The store of one machine."""


class TestPostgreSQL(OnPostgreSQL, BatchesConformance):
    """The store of many machines."""


async def test_two_stores_have_two_identities(tmp_path: Path) -> None:
    """Two folders are two stores, also when both were made by the same command."""
    async with (
        ResultStore.open(tmp_path / "a.db") as one,
        ResultStore.open(tmp_path / "b.db") as other,
    ):
        assert await one.identity() != await other.identity()


def test_an_id_set_has_a_text_that_is_the_same_in_every_process() -> None:
    """It is stored, and compared by commands that start years later."""
    ids = IdSet()
    ids.add(["night:a", "night:\ud800"])
    assert str(ids) == "2:" + str(ids).partition(":")[2]
    again = IdSet()
    again.add(["night:\ud800"])
    again.add(["night:a"])
    assert str(again) == str(ids)
