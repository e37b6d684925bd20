"""What ResultStore promises with any database; test_conformance.py runs it over both."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest
from sqlalchemy import inspect

from nightmill.errors import StoreError
from nightmill.records.message import Message
from nightmill.records.result import KEPT_FIRST, KEPT_LAST, Attempt, Usage
from nightmill.records.state import JobState
from nightmill.store import ResultStore, Spent, Stored
from nightmill.store.schema import (
    ACCESS_KEYS,
    AUDIT,
    BATCHES,
    MESSAGE_BATCHES,
    META,
    REQUESTS,
    RESULTS,
    SPENT,
    TURNS,
)
from nightmill.store.statements import PAGE_ROWS
from tests.producer.store.samples import FAILED, SINGLE, SUCCEEDED, numbered

if TYPE_CHECKING:
    from nightmill.records.result import Result
    from nightmill.store.connection import Connection


class Conformance:
    """The tests; a subclass says where the store is."""

    @pytest.mark.parametrize("result", [SUCCEEDED, FAILED, SINGLE], ids=lambda r: str(r.status))
    async def test_a_result_comes_back_as_it_was_recorded(
        self, store: ResultStore, result: Result
    ) -> None:
        """Every field of a result is kept, JSON byte for byte."""
        assert await store.record([result]) == 1
        assert await store.get(result.job_id) == result

    async def test_a_job_without_a_row_has_no_result(self, store: ResultStore) -> None:
        """A missing row is not an error."""
        assert await store.get("night:unknown") is None
        assert await store.lookup(["night:unknown"]) == {}

    async def test_nothing_to_record_or_look_up_costs_no_transaction(
        self, store: ResultStore
    ) -> None:
        """A group commit's timer may fire without rows."""
        assert await store.record([]) == 0
        assert await store.lookup([]) == {}

    async def test_a_second_result_of_the_same_run_is_refused_and_not_counted(
        self,
        store: ResultStore,
    ) -> None:
        """A job is terminal once per run: the answer that was stored first stays."""
        late = msgspec.structs.replace(FAILED, job_id=SUCCEEDED.job_id)
        await store.record([SUCCEEDED])
        assert await store.record([late, numbered(99)]) == 1
        assert await store.get(SUCCEEDED.job_id) == SUCCEEDED

    async def test_one_group_may_hold_two_results_of_a_job(self, store: ResultStore) -> None:
        """After a lost lease a job may be twice in one commit; the first row counts."""
        late = msgspec.structs.replace(SUCCEEDED, worker="host:2")
        rerun = msgspec.structs.replace(FAILED, run=1)
        assert await store.record([SUCCEEDED, late, FAILED, rerun]) == 3
        assert await store.get(SUCCEEDED.job_id) == SUCCEEDED
        kept = await store.get(FAILED.job_id)
        assert kept is not None
        assert kept.run == 1

    async def test_a_higher_run_replaces_the_row_and_keeps_the_earlier_attempts(
        self,
        store: ResultStore,
    ) -> None:
        """The row has the whole history: attempts numbered on, counts added up."""
        rerun = numbered(8, run=1)
        await store.record([FAILED])
        assert await store.record([rerun]) == 1
        kept = await store.get(FAILED.job_id)
        assert kept is not None
        assert (kept.run, kept.status, kept.error) == (1, JobState.SUCCEEDED, None)
        assert [(each.n, each.outcome) for each in kept.attempts] == [
            (1, "failed"),
            (2, "snoozed"),
            (3, "succeeded"),
        ]
        assert (kept.attempt_count, kept.snooze_count) == (2, 1)

    async def test_a_lower_run_never_replaces_a_higher_one(self, store: ResultStore) -> None:
        """A worker that was suspended during a requeue comes too late."""
        rerun = numbered(8, run=2)
        await store.record([rerun])
        assert await store.record([FAILED, msgspec.structs.replace(FAILED, run=1)]) == 0
        assert await store.get(FAILED.job_id) == rerun

    async def test_only_the_first_and_last_attempts_are_kept_but_the_count_is_exact(
        self,
        store: ResultStore,
    ) -> None:
        """A job that was snoozed all night must not have a row of megabytes."""
        calls = tuple(Attempt(n=n, started_at=n, outcome="snoozed") for n in range(1, 41))
        await store.record([numbered(1, attempts=calls, attempt_count=0, snooze_count=40)])
        await store.record([numbered(1, attempts=calls, attempt_count=0, snooze_count=40, run=1)])
        kept = await store.get("night:line-1")
        assert kept is not None
        first, last = range(1, KEPT_FIRST + 1), range(81 - KEPT_LAST, 81)
        assert [each.n for each in kept.attempts] == [*first, *last]
        assert kept.snooze_count == 80

    async def test_a_byte_that_is_not_text_does_not_cost_the_group_its_commit(
        self,
        store: ResultStore,
    ) -> None:
        """One broken body among 500 rows must not lose the other 499."""
        broken = numbered(1, message=Message(b'{"text":"\xff"}'))
        assert await store.record([broken, numbered(2)]) == 2
        kept = await store.get(broken.job_id)
        assert kept is not None
        assert kept.message == msgspec.Raw('{"text":"\ufffd"}')

    async def test_rows_are_counted_by_stop_reason(self, store: ResultStore) -> None:
        """Redis may lose these counts; a failed row has no answer, so no stop reason."""
        rows = [
            msgspec.structs.replace(numbered(n), stop_reason=reason)
            for n, reason in enumerate(("max_tokens", "max_tokens", "new", None), 1)
        ]
        await store.record([*rows, msgspec.structs.replace(FAILED, stop_reason=None)])
        assert await store.stop_reasons("night") == {"max_tokens": 2, "new": 1, "none": 1}
        for name, number in {"max_tokens": 2, "new": 1, "none": 1, "other": 0}.items():
            chosen = store.stream("night", statuses={JobState.SUCCEEDED}, stop_reason=name)
            assert len([row async for row in chosen]) == number

    async def test_the_newest_failures_come_first(self, store: ResultStore) -> None:
        """A picture that is drawn every second shows them, so few rows are read for them."""
        rows = [numbered(n) for n in range(1, 4)]
        failed = [
            msgspec.structs.replace(row, status=JobState.FAILED, error=FAILED.error, finished_at=n)
            for n, row in enumerate(rows[:2], 1)
        ]
        await store.record([*failed, rows[2]])
        assert FAILED.error is not None
        found = await store.newest_failures("night", 5)
        assert found == [(2, rows[1].job_id, FAILED.error), (1, rows[0].job_id, FAILED.error)]
        assert await store.newest_failures("night", 1) == found[:1]
        assert await store.newest_failures("", 5) == []

    async def test_lookup_returns_run_status_and_request_of_the_stored_ids(
        self, store: ResultStore
    ) -> None:
        """A claim looks a job up before it calls; a feeder checks whether a request changed."""
        odd = numbered(1, job_id='night:"quoted", ünïcode\n', run=3)
        await store.record([odd, FAILED])
        assert await store.lookup([odd.job_id, "night:line-404", FAILED.job_id]) == {
            each.job_id: Stored(
                run=each.run,
                status=each.status,
                request_hash=odd.request_hash,
                stop_reason=each.stop_reason,
            )
            for each in (odd, FAILED)
        }

    async def test_lookup_takes_more_ids_than_sqlite_has_variables(
        self, store: ResultStore
    ) -> None:
        """A feeder may look up a whole window at once."""
        await store.record([numbered(seq) for seq in range(1, 101)])
        found = await store.lookup([f"night:line-{seq}" for seq in range(50_000)])
        assert len(found) == 100

    @pytest.mark.parametrize(
        ("ordered", "expected"), [(True, range(1, 452)), (False, range(451, 0, -1))]
    )
    async def test_a_stream_pages_through_the_batch_in_the_order_asked_for(
        self, store: ResultStore, *, ordered: bool, expected: range
    ) -> None:
        """Pages neither lose nor repeat a row, with ties and with rows of other batches between."""
        rows = [numbered(seq, finished_at=(1000 - seq)) for seq in range(1, 452)]
        await store.record(rows[::2])
        await store.record([numbered(1, batch="other"), SINGLE, *rows[1::2]])
        seqs = [each.seq async for each in store.stream("night", ordered=ordered)]
        assert seqs == list(expected)
        assert len(seqs) > 2 * PAGE_ROWS

    async def test_a_stream_orders_ties_by_id(self, store: ResultStore) -> None:
        """A whole group may finish in one millisecond."""
        await store.record([numbered(seq, finished_at=5) for seq in range(1, 452)])
        found = [each.job_id async for each in store.stream("night")]
        assert found == sorted(found)
        assert len(set(found)) == 451

    async def test_a_stream_gives_only_the_statuses_asked_for(self, store: ResultStore) -> None:
        """`results --failed` exports failed jobs only."""
        await store.record([SUCCEEDED, FAILED])
        assert [r async for r in store.stream("night", statuses=[JobState.FAILED])] == [FAILED]
        assert [r async for r in store.stream("night", statuses=[])] == []

    async def test_rows_can_be_recorded_while_a_stream_is_read(self, store: ResultStore) -> None:
        """An export of a running batch must not block its workers."""
        await store.record([numbered(seq) for seq in range(1, 300)])
        read = 0
        async for _ in store.stream("night", ordered=True):
            if read == 0:
                assert await store.record([numbered(seq) for seq in range(300, 350)]) == 50
            read += 1
        assert read == 349

    async def test_counts_tokens_and_batches_add_up(self, store: ResultStore) -> None:
        """`status` shows these numbers; single jobs are the batch without a name."""
        await store.record([SUCCEEDED, FAILED, SINGLE, numbered(1), numbered(1, batch="day")])
        none = dict.fromkeys(sorted([*JobState][4:]), 0)
        night = none | {JobState.SUCCEEDED: 2, JobState.FAILED: 1}
        assert await store.counts("night") == night
        assert await store.counts("unknown") == none
        assert await store.counts_of(["night", "unknown"]) == {"night": night, "unknown": none}
        assert await store.batches() == {
            "": none | {JobState.EXPIRED: 1},
            "day": none | {JobState.SUCCEEDED: 1},
            "night": night,
        }
        spent = await store.spent("night")
        assert spent.usage == Usage(
            input_tokens=22,
            output_tokens=44,
            cache_read_input_tokens=66,
            cache_creation_input_tokens=88,
        )
        costs = [row.cost for row in (SUCCEEDED, FAILED, numbered(1))]
        assert spent.cost == pytest.approx(sum(cost or 0 for cost in costs))
        assert spent.unpriced == costs.count(None)
        assert await store.spent("unknown") == Spent()

    async def test_what_was_spent_only_adds_up(self, store: ResultStore) -> None:
        """A replaced run's tokens and cost vanished from status and budget."""
        first = msgspec.structs.replace(numbered(1), cost=0.25)
        await store.record([first])
        once = await store.spent("night")
        again = msgspec.structs.replace(first, run=1, finished_at=first.finished_at + 1)
        await store.record([again])
        both = await store.spent("night")
        assert both == once + once
        assert await store.record([again, first]) == 0, "the first is an older answer"
        third = once + once + once
        assert await store.spent("night") == third, "the same row again is no other answer"
        twice = msgspec.structs.replace(again, request_id="another call")
        assert await store.record([twice]) == 0
        assert await store.spent("night") == third + once
        assert await store.spent("day") == Spent()
        await store.prune("night")
        assert await store.spent("night") == third + once
        await store.forget("night")
        assert await store.spent("night") == Spent()

    async def test_a_name_that_postgresql_cannot_keep_is_kept_without_its_nul(
        self, store: ResultStore
    ) -> None:
        """Any program may enqueue; one id must not take the whole group, or its worker, down."""
        odd = numbered(1, job_id="night:a\0b", custom_id="a\0b")
        assert await store.record([odd, numbered(2)]) == 2
        assert await store.record([msgspec.structs.replace(odd, run=1)]) == 1
        assert set(await store.lookup([odd.job_id, "night:line-2"])) == {odd.job_id, "night:line-2"}
        kept = await store.get(odd.job_id)
        assert kept is not None
        assert (kept.run, kept.custom_id) == (1, "a\N{REPLACEMENT CHARACTER}b")

    async def test_a_later_run_adds_to_the_time_in_calls_and_to_the_reasons(
        self, store: ResultStore
    ) -> None:
        """The row has the time and the reasons of all its runs."""
        await store.record([SUCCEEDED])
        await store.record([msgspec.structs.replace(SUCCEEDED, run=1, call_ms=500)])
        kept = await store.get(SUCCEEDED.job_id)
        assert kept is not None
        assert (kept.call_ms, kept.snooze_reasons) == (1_500, {"rate_limit_error": 2})

    async def test_the_migrations_make_the_table_that_the_program_uses(
        self, store: ResultStore
    ) -> None:
        """The tables are described twice; the two must stay the same."""

        def columns(connection: Connection) -> dict[str, list[str]]:
            with connection.alchemy() as within:
                found = inspect(within)
                return {
                    name: [each["name"] for each in found.get_columns(name)]
                    for name in found.get_table_names()
                }

        assert await store._database.run(columns) == {
            "results": list(RESULTS),
            "batches": list(BATCHES),
            "meta": list(META),
            "spent": list(SPENT),
            "turns": list(TURNS),
            "access_keys": list(ACCESS_KEYS),
            "message_batches": list(MESSAGE_BATCHES),
            "requests": list(REQUESTS),
            "audit": list(AUDIT),
            "alembic_version": ["version_num"],
        }

    async def test_stores_opened_at_once_make_one_schema(self, where: str) -> None:
        """A supervisor starts its workers together."""

        async def opened() -> int:
            async with ResultStore.open(where) as store:
                return await store.record([SUCCEEDED])

        assert sorted(await asyncio.gather(*(opened() for _ in range(6)))) == [0, 0, 0, 0, 0, 1]

    async def test_a_newer_schema_is_refused_and_left_alone(
        self, store: ResultStore, where: str
    ) -> None:
        """An older program must not write rows that it does not understand."""

        def age(connection: Connection) -> None:
            connection.change("UPDATE alembic_version SET version_num = '9999'")

        await store._database.run(age, write=True)
        with pytest.raises(StoreError, match=r"version 9999.*knows up to.*install the newer"):
            await ResultStore.connect(where)
