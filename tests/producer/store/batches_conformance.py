"""What the store keeps of whole batches, with any database; test_batches.py runs it over both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nightmill.records.id_set import IdSet
from nightmill.store import ResultStore, StoredBatch
from nightmill.store import batches as statements
from tests.producer.store.samples import FAILED, SUCCEEDED, numbered

if TYPE_CHECKING:
    import pytest

    from nightmill.store.connection import Connection

FED = StoredBatch(state="fed", total=2, source="2:00000000000000ff", estimate="{}")


class BatchesConformance:
    """The tests; a subclass says where the store is."""

    async def test_what_is_known_of_a_batch_is_kept_and_replaced(self, store: ResultStore) -> None:
        """The total lived in Redis alone; a replica that lagged made 1,000 of 2,000 a success."""
        assert await store.known("night") is None
        await store.note("night", StoredBatch(state="feeding"))
        await store.note("day", FED)
        assert await store.known("night") == StoredBatch(state="feeding")
        await store.note("night", FED)
        assert await store.all_known() == {"day": FED, "night": FED}
        await store.forget("night")
        assert await store.all_known() == {"day": FED}

    async def test_any_name_and_total_fit(self, store: ResultStore) -> None:
        """A name that cannot be a column must not end the feeder that notes it."""
        odd = StoredBatch(state="fed", total=1 << 70)
        for name in ("a\0b", "\ud800", "x" * 9_000):
            await store.note(name, odd)
            known = await store.known(name)
            assert known is not None
            assert known.total == (1 << 63) - 1

    async def test_the_ids_of_the_rows_are_compared_with_a_source(
        self, store: ResultStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A row of another job must not stand for one that is missing: ids count, not rows."""
        monkeypatch.setattr(statements, "IDS", 7)
        rows = [numbered(seq) for seq in range(1, 31)]
        await store.record([*rows, numbered(1, batch="other")])
        source, longer = IdSet(), IdSet()
        source.add(row.job_id for row in reversed(rows[:15]))
        source.add(row.job_id for row in rows[15:])
        longer.add(row.job_id for row in rows)
        longer.add(["night:line-31"])
        found = await store.ids("night")
        assert (found == source, found.count) == (True, 30)
        assert (found == longer, found == IdSet()) == (False, False)
        assert await store.ids("none") == IdSet()

    async def test_every_store_has_an_identity_of_its_own(
        self, store: ResultStore, where: str
    ) -> None:
        """A worker in another folder stored its answers where nobody looked for them."""
        identity = await store.identity()
        assert len(identity) == 32
        async with ResultStore.open(where) as again:
            assert await again.identity() == identity

    async def test_a_store_of_the_version_before_is_brought_up_to_date(
        self, store: ResultStore, where: str
    ) -> None:
        """Its rows stay, and it gets the tables and an identity."""
        await store.record([SUCCEEDED, FAILED])

        def age(connection: Connection) -> None:
            for statement in (
                *("DROP TABLE batches", "DROP TABLE meta", "DROP TABLE turns"),
                *("DROP TABLE access_keys", "DROP TABLE message_batches", "DROP TABLE requests"),
                "DROP TABLE audit",
                "ALTER TABLE results DROP COLUMN turns",
                "ALTER TABLE results DROP COLUMN api",
                "ALTER TABLE results DROP COLUMN cache_creation_1h_input_tokens",
                "ALTER TABLE results DROP COLUMN web_search_requests",
                "ALTER TABLE results DROP COLUMN billed_as",
                "ALTER TABLE results DROP COLUMN cost_parts",
                "UPDATE alembic_version SET version_num = '0002'",
            ):
                connection.change(statement)

        await store._database.run(age, write=True)
        async with ResultStore.open(where) as migrated:
            assert await migrated.all_known() == {}
            assert await migrated.identity()
            assert await migrated.get(SUCCEEDED.job_id) == SUCCEEDED
