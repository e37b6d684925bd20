"""The figures of a report are those of the store, over both databases."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import msgspec

from nightmill.charts import Bin
from nightmill.records.result import Attempt, Bill, ErrorInfo, Usage
from nightmill.records.state import JobState
from nightmill.reports.report import Report, read_report
from nightmill.reports.report_page import page
from nightmill.reports.sums import BUCKETS, DISTRIBUTIONS, Sums, bins, percentile
from tests.producer.store.databases import OnPostgreSQL, OnSQLite
from tests.producer.store.samples import FAILED, numbered

if TYPE_CHECKING:
    from nightmill.records.result import Result
    from nightmill.store import ResultStore
    from nightmill.store.connection import Connection

EVIL = "</style></td><script>alert(1)</script>\x1b[2J\u202e\"'&"
START = 1_764_450_000_000


def row(n: int, chance: random.Random) -> Result:
    """Return one row of a night in which everything happened."""
    status = chance.choice([JobState.SUCCEEDED] * 8 + [JobState.FAILED, JobState.CANCELLED])
    attempts = [Attempt(n=1, started_at=START, outcome="succeeded")]
    if chance.random() < 0.2:
        lost = Attempt(n=1, started_at=START, outcome="lost", counted=False)
        again = Attempt(n=2, started_at=START, outcome="retrying", error_type="overloaded_error")
        attempts = [lost, again, *attempts]
    usage = Usage(input_tokens=chance.randrange(9000), output_tokens=chance.randrange(999))
    bill = Bill(input=usage.input_tokens * 5e-6, output=usage.output_tokens * 25e-6)
    known = chance.random() < 0.95
    return numbered(
        n,
        status=status,
        model=chance.choice(["claude-opus-4-6", "claude-haiku-4-5"]),
        stop_reason=chance.choice(["end_turn", "end_turn", "max_tokens", "refusal"]),
        error=ErrorInfo(type="invalid_request_error", message=f"{EVIL} {n}", fix="give less")
        if status is JobState.FAILED
        else None,
        attempts=tuple(attempts),
        attempt_count=sum(each.counted for each in attempts),
        snooze_count=sum(not each.counted for each in attempts),
        snooze_reasons={"lost": 1} if len(attempts) > 1 else {},
        usage=usage,
        cost=bill.total if known else None,
        cost_parts=bill if known else None,
        enqueued_at=START,
        started_at=START + chance.randrange(1000) if status is not JobState.CANCELLED else None,
        finished_at=START + 1000 + chance.randrange(3_600_000),
        queue_ms=chance.randrange(60_000),
        call_ms=chance.randrange(30_000),
    )


async def made(store: ResultStore, batch: str = "night") -> Report:
    """Return the report of a batch without Redis."""
    return await read_report(store, None, batch, None, version="1.2.3")


class Figures:
    """What the page says is what SQL says."""

    async def filled(self, store: ResultStore) -> Report:
        """Store a night, and read its report."""
        chance = random.Random(7)
        rows = [row(n, chance) for n in range(1, 601)]
        await store.record(rows)
        await store.record([numbered(n, batch="other") for n in range(1, 5)])
        again = msgspec.structs.replace(rows[0], run=1, cost=0.5, cost_parts=None)
        await store.record([again])
        return await made(store)

    async def asked(
        self, store: ResultStore, what: str, more: str = ""
    ) -> list[tuple[object, ...]]:
        """Ask the store's database about the night."""

        def ask(connection: Connection) -> list[tuple[object, ...]]:
            sql = f"SELECT {what} FROM results WHERE batch = 'night' {more}"  # noqa: S608 - a test
            return [tuple(each) for each in connection.rows(sql)]

        return await store.database.run(ask)

    async def test_the_sums_are_those_of_sql(self, store: ResultStore) -> None:
        """A morning after must not begin with two different bills."""
        report = await self.filled(store)
        sums = report.sums
        assert dict(sums.states) == dict(await self.asked(store, "status, count(*)", "GROUP BY 1"))  # type: ignore[arg-type]
        by_model = await self.asked(
            store,
            "model, count(*), sum(input_tokens), sum(output_tokens), sum(cost), "
            "count(*) - count(cost)",
            "GROUP BY model",
        )
        assert {(m, s.jobs, s.input_tokens, s.output_tokens, round(s.cost, 9), s.unpriced)
                for m, s in sums.models.items()} == {
            (m, jobs, given, out, round(cost, 9), unpriced)  # type: ignore[call-overload]
            for m, jobs, given, out, cost, unpriced in by_model
        }  # fmt: skip
        ((calls, last),) = await self.asked(
            store, "sum(attempt_count + snooze_count), max(finished_at)"
        )
        assert (sums.calls, sums.last_ended) == (calls, last)
        ((failed,),) = await self.asked(store, "sum(cost)", "AND status <> 'succeeded'")
        assert round(sums.failed_usd, 9) == round(failed, 9)  # type: ignore[call-overload]
        assert (sums.lost_calls, round(sums.lost_usd, 9)) == (
            (await store.lost("night"))[0],
            round((await store.lost("night"))[1], 9),
        )
        assert sums.again["overloaded_error"] + sums.again["lost"] == 2 * sums.again["lost"] > 0

    async def test_what_was_spent_has_the_calls_that_are_no_rows(self, store: ResultStore) -> None:
        """A run that a retry replaced was paid for."""
        report = await self.filled(store)
        spent = await store.spent("night")
        assert round(report.spent_usd, 6) == round(spent.cost, 6)
        assert report.gone_usd > 0
        assert report.unpriced == spent.unpriced

    async def test_the_percentiles_are_those_of_sql(self, store: ResultStore) -> None:
        """The smallest value that so many percent do not exceed."""
        report = await self.filled(store)
        for name in DISTRIBUTIONS:
            called = "AND started_at IS NOT NULL"
            ((number,),) = await self.asked(store, "count(*)", called)
            assert isinstance(number, int)
            spread = report.sums.spread(name)
            assert spread.number == number == sum(each.count for each in spread.bins)
            for percent, got in ((50, spread.p50), (90, spread.p90), (99, spread.p99)):
                place = -(-number * percent // 100) - 1
                order = f"{called} ORDER BY {name} LIMIT 1 OFFSET {place}"
                assert await self.asked(store, name, order) == [(got,)]

    async def test_the_time_line_has_every_row(self, store: ResultStore) -> None:
        """A step without a job is a zero, and the steps are few."""
        sums = (await self.filled(store)).sums
        assert sums.ended.total() == 600
        assert max(sums.ended) - min(sums.ended) <= BUCKETS
        ((first,),) = await self.asked(
            store, "count(*)", f"AND finished_at / 1000 / {sums.step_s} = {min(sums.ended)}"
        )
        assert sums.ended[min(sums.ended)] == first

    async def test_the_page_shows_these_figures_and_escapes_all_texts(
        self, store: ResultStore
    ) -> None:
        """Errors and names come from outside."""
        report = await self.filled(store)
        shown = page(report)
        for figure in (
            f"{report.sums.states['succeeded']:,}",
            f"{report.sums.calls:,} calls",
            "claude-haiku-4-5",
            "give less",
            "nightmill errors" if len(report.failures) > 50 else "nightmill retry night",
        ):
            assert figure in shown
        assert "<script" not in shown
        assert not set("\x1b\u202e") & set(shown)
        assert "http" not in shown.replace("http-equiv", "").replace(
            "http://www.w3.org/2000/svg", ""
        )
        assert "style=" not in shown

    async def test_a_batch_without_rows_has_a_page(self, store: ResultStore) -> None:
        """It was fed, and no job has ended yet; or its source was empty."""
        shown = page(await made(store, "empty"))
        assert "no data" in shown
        assert "No job failed." in shown

    async def test_damaged_columns_cost_themselves(self, store: ResultStore) -> None:
        """Another program may have written the row."""
        await store.record([msgspec.structs.replace(FAILED, attempt_count=3)])

        def damage(connection: Connection) -> None:
            connection.change(
                "UPDATE results SET attempts = '[1', cost_parts = '{', snooze_reasons = '7'"
            )

        await store.database.run(damage, write=True)
        report = await made(store)
        assert (report.sums.rows, report.sums.calls) == (1, 3)


class TestSQLite(OnSQLite, Figures):
    """Over SQLite."""


class TestPostgreSQL(OnPostgreSQL, Figures):
    """Over PostgreSQL."""


def test_bars_hold_every_value_and_the_last_one_the_rest() -> None:
    """One job that hung for an hour must not push all others into one bar."""
    found = bins(sorted([*range(1000), 3_600_000]))
    assert sum(each.count for each in found) == 1001
    assert found[-1].high > 3_600_000
    assert len(found) <= 30
    assert bins([0, 0]) == [Bin(low=0.0, high=1.0, count=2), Bin(low=1.0, high=2.0, count=0)]


def test_percentiles_of_few_values() -> None:
    """Of one value each is that value."""
    assert [percentile([5], p) for p in (50, 90, 99)] == [5, 5, 5]
    assert [percentile([1, 2], p) for p in (50, 90)] == [1, 2]


def test_a_week_has_few_steps() -> None:
    """A chart of 600,000 points is not read."""
    for span_s in (0, 1, 3600, 7 * 86_400, 10 * 365 * 86_400):
        assert span_s / Sums(0, span_s * 1000).step_s <= BUCKETS
