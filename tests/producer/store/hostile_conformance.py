"""What ResultStore promises for hostile rows; test_hostile.py runs it over both databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nightmill.records.bounds import MAX_DATE_MS, MAX_INT
from nightmill.records.state import JobState
from nightmill.store import statements
from nightmill.store.bounds import MAX_COUNT
from nightmill.store.reduced import reduced
from nightmill.store.rows import to_values
from tests.producer.store.hostile import GOOD, HOSTILE, HUGE, LONG_ID, NIGHT, ODD, ended
from tests.producer.store.samples import FAILED, SUCCEEDED, numbered

if TYPE_CHECKING:
    from nightmill.records.result import Result
    from nightmill.store import ResultStore
    from nightmill.store.connection import Connection


class HostileConformance:
    """The tests; a subclass says where the store is."""

    async def test_a_hostile_row_is_stored_beside_its_neighbours_and_found_again(
        self, store: ResultStore
    ) -> None:
        """One such row ended a worker at every start, and the answers beside it were paid again."""
        for number, (what, result) in enumerate(HOSTILE.items()):
            neighbours = [numbered(1_000 + 2 * number + each) for each in (0, 1)]
            assert await store.record([neighbours[0], result, neighbours[1]]) == 3, what
            assert (await store.lookup([result.job_id])).keys() == {result.job_id}, what
            row = await store.get(result.job_id)
            assert row is not None, what
            assert row.status is result.status, what
            assert await store.record([result]) == 0, what
        read = [row async for row in store.stream("night", ordered=True)]
        assert len(read) == len(NIGHT) + 2 * len(HOSTILE)

    async def test_a_reduced_row_is_stored_with_its_answer(self, store: ResultStore) -> None:
        """It is the last resort for a row that a store refuses, so it must not fail."""
        for what, result in HOSTILE.items():
            assert await store.record([reduced(result, f"refused: {ODD}")]) == 1, what
            row = await store.get(result.job_id)
            assert row is not None, what
            assert row.error is not None, what
            assert "the store refused the whole row: refused" in str(row.error.fix), what
            assert (row.status, row.attempts, row.params) == (result.status, (), None), what
            assert (row.message is None) == (result.message is None), what

    async def test_numbers_and_times_out_of_range_are_clamped(self, store: ResultStore) -> None:
        """A row with one wrong number is worth more than no row."""
        await store.record(NIGHT)
        tokens = await store.get("night:line-2")
        counts = await store.get("night:line-4")
        times = await store.get("night:line-7")
        assert tokens is not None
        assert counts is not None
        assert times is not None
        assert tokens.usage.input_tokens == tokens.usage.output_tokens == MAX_INT
        assert tokens.usage.cache_creation_input_tokens == -MAX_INT - 1
        assert (counts.attempt_count, counts.call_ms) == (MAX_COUNT, MAX_INT)
        assert times.enqueued_at == times.started_at == times.finished_at == MAX_DATE_MS
        priceless = await store.get("night:line-9")
        assert priceless is not None
        assert priceless.cost is None

    async def test_a_long_id_is_stored_under_its_start_and_its_hash(
        self, store: ResultStore
    ) -> None:
        """Ids that differ only after the cut stay different jobs."""
        other = LONG_ID + "!"
        rows = [numbered(1, job_id=job_id) for job_id in (LONG_ID, other)]
        assert await store.record(rows) == 2
        assert (await store.lookup([LONG_ID, other])).keys() == {LONG_ID, other}

    async def test_two_ids_with_one_key_are_one_job(self, store: ResultStore) -> None:
        """PostgreSQL takes a key only once in a statement; the first row counts."""
        twins = [
            numbered(1, job_id="night:a\0"),
            numbered(1, job_id="night:a\N{REPLACEMENT CHARACTER}"),
        ]
        assert await store.record(twins) == 1
        assert len(await store.lookup([each.job_id for each in twins])) == 2

    async def test_reports_over_hostile_rows_add_up(self, store: ResultStore) -> None:
        """SQLite's sum() fails over int64: `status` of the whole batch failed with it."""
        await store.record([*NIGHT, *GOOD])
        counts = await store.counts("night")
        assert counts[JobState.SUCCEEDED] == ended(NIGHT, JobState.SUCCEEDED) + len(GOOD)
        assert counts[JobState.FAILED] == 1
        spent = await store.spent("night")
        assert spent.usage.input_tokens == MAX_INT
        assert spent.unpriced == 2
        (((error, jobs, example),),) = [page async for page in store.errors("night")]
        assert (jobs, example) == (1, "night:line-11")
        assert error.message.startswith("a\N{REPLACEMENT CHARACTER}b")
        assert (await store.lost("night"))[0] == 1
        assert (await store.batches())["night"] == counts

    async def test_a_stream_passes_rows_whose_place_is_out_of_range(
        self, store: ResultStore
    ) -> None:
        """A page that started after a clamped place would come again and again."""
        rows = [numbered(HUGE + n, finished_at=10**17) for n in range(450)]
        await store.record(rows)

        def unbounded(connection: Connection) -> None:  # as rows of earlier versions are
            connection.change("UPDATE results SET finished_at = 100000000000000000")

        await store._database.run(unbounded, write=True)
        for ordered in (True, False):
            assert len({row.job_id async for row in store.stream("night", ordered=ordered)}) == 450

    async def test_columns_that_cannot_be_read_do_not_hide_their_row(
        self, store: ResultStore
    ) -> None:
        """Another version, or a person, may have written them."""
        await store.record([SUCCEEDED, FAILED])

        def spoil(connection: Connection) -> None:
            connection.change(
                "UPDATE results SET status = 'reviewed', error = 'broken', attempts = '{', "
                "snooze_reasons = '7', message = 'x', enqueued_at = -5"
            )

        await store._database.run(spoil, write=True)
        for row in [row async for row in store.stream("night")]:
            assert (row.status, row.attempts, row.snooze_reasons) == (JobState.FAILED, (), {})
            assert row.error is not None
            assert row.error.message == "broken"
            assert row.enqueued_at == 0
        assert (await store.counts("night"))[JobState.FAILED] == 2
        assert (await store.lookup([FAILED.job_id]))[FAILED.job_id].status is JobState.FAILED

    async def test_hostile_rows_are_pruned_by_their_batch(self, store: ResultStore) -> None:
        """A batch's name is brought into range in the same way when it is read."""
        for batch in {row.batch or "" for row in HOSTILE.values()}:
            rows = [row for row in HOSTILE.values() if row.batch == batch]
            await store.record(rows)
            assert await store.prune(batch) == len(rows)
        assert await store.batches() == {}

    async def test_a_group_with_a_refused_row_is_stored_all_the_same(
        self, store: ResultStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The refused row is found by halving, and stored reduced; the others are whole."""

        def refuse(result: Result) -> tuple[object, ...]:
            if result.seq == 105 and result.attempts:
                raise OverflowError("a value that nobody has thought of")
            return to_values(result)

        monkeypatch.setattr(statements, "to_values", refuse)
        reduced_rows: list[tuple[str, str]] = []
        stored = await store.record_all(
            GOOD, lambda row, problem: reduced_rows.append((row.job_id, problem))
        )
        assert stored == len(GOOD)
        ((job_id, problem),) = reduced_rows
        assert job_id == "night:line-105"
        assert "nobody has thought of" in problem
        rows = [row async for row in store.stream("night", ordered=True)]
        assert [row.seq for row in rows if row.attempts] == [
            row.seq for row in GOOD if row.seq != 105
        ]
