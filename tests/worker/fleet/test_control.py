"""Control of a batch end to end: cancel, deadline, budget, concurrency, weight."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nightmill.enqueue.reconcile import open_batch
from nightmill.errors import BatchEndedError
from nightmill.maintenance.cancellation import Cancellation
from nightmill.queue import keys
from nightmill.queue.batches import Batches
from nightmill.records.limits import Change
from nightmill.records.state import JobState
from nightmill.settings import load_settings
from nightmill_worker.simulator import SimulatorConfig
from tests.producer.store.samples import numbered
from tests.rig import Rig, hello, rigged, until

MODEL = "claude-opus-4-6"
SETTINGS = load_settings(model=MODEL)
SLOW = SimulatorConfig(latency_s=0.3)


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return everything but a worker."""
    async with rigged(redis_url, tmp_path, fleet_max_in_flight=8) as made:
        yield made


async def fill(rig: Rig, jobs: int, batch: str = "b", *, first: int = 0, **fields: object) -> None:
    """Put `jobs` prompts into `batch`, numbered from `first`."""
    numbers = range(first, first + jobs)
    requests = [{**hello(f"say {n}"), **fields, "custom_id": f"{n}"} for n in numbers]
    await rig.producer.enqueue_many(requests, batch=batch)


async def test_cancel_turns_the_queue_into_rows_and_lets_calls_finish(
    redis_url: str, tmp_path: Path
) -> None:
    """After `cancel` no call starts, calls under way finish, and every job has its row."""
    async with rigged(redis_url, tmp_path, SLOW, fleet_max_in_flight=8) as rig:
        await fill(rig, 1200)
        batches = Batches(rig.redis)
        async with rig.working():
            await until(lambda: rig.calls() >= 8)
            await batches.cancel("b")
            calls = rig.calls()
            await until(lambda: _drained(batches))
        counts = await batches.counts("b")
        rows = await rig.store.counts("b")
        assert rig.calls() == calls == counts.succeeded
        assert (counts.state, counts.cancelled) == ("cancelled", 1200 - calls)
        assert (rows[JobState.CANCELLED], rows[JobState.SUCCEEDED]) == (1200 - calls, calls)


async def test_cancelled_rows_are_written_while_the_account_is_stopped(
    redis_url: str, tmp_path: Path
) -> None:
    """A batch is often cancelled because its account is stopped; it must end all the same."""
    config = SimulatorConfig(latency_s=0.02, auth="another")
    async with rigged(redis_url, tmp_path, config) as rig:
        await fill(rig, 50)
        batches = Batches(rig.redis)
        async with rig.working():
            await until(batches.accounts)
            await batches.cancel("b")
            await until(lambda: _drained(batches))
        assert (await rig.store.counts("b"))[JobState.CANCELLED] == 50


async def test_a_cancellation_that_was_cut_off_goes_on_where_it_was(rig: Rig) -> None:
    """Rows are committed before their jobs are taken out, so a crash between loses none."""
    await fill(rig, 30)
    batches = Batches(rig.redis)
    await batches.cancel("b")
    crashed = Cancellation(rig.redis, rig.store, rig.settings)
    queue = keys.batch_queue("b", MODEL)
    _, _, *found = await crashed._script(args=[queue, "b", crashed._me, 0, 10])
    await rig.store.record([crashed._row(job, queue, "b", JobState.CANCELLED) for job in found])
    await rig.redis.execute_command("DEL", keys.CANCELLATION + "b")  # its place ends by itself
    assert await Cancellation(rig.redis, rig.store, rig.settings).run("b") == 30
    assert (await batches.counts("b")).cancelled == 30
    assert (await rig.store.counts("b"))[JobState.CANCELLED] == 30


async def test_rows_that_are_committed_are_counted_when_the_batch_goes_on(rig: Rig) -> None:
    """A change of the deadline between the commit and the script left 10 ends uncounted: their jobs
    stayed in the queue, and the worker that claimed them found their rows.
    """
    await fill(rig, 30)
    batches = Batches(rig.redis)
    await batches.end("b", "expired")
    slow = Cancellation(rig.redis, rig.store, rig.settings)
    queue = keys.batch_queue("b", MODEL)
    _, _, *found = await slow._script(args=[queue, "b", slow._me, 0, 10])
    rows = [slow._row(job, queue, "b", JobState.EXPIRED) for job in found]
    await rig.store.record(rows)
    adjusting = asyncio.create_task(batches.limit("b", Change(expires_s=3600), settings=SETTINGS))
    assert not (await asyncio.wait([adjusting], timeout=0.3))[0], "not while rows are written"
    await rig.redis.execute_command("DEL", keys.CANCELLATION + "b")  # that process was suspended
    await adjusting
    done = [part for row in rows[:5] for part in (row.job_id, row.status, b"{}")]
    assert (await slow._script(args=[queue, "b", slow._me, 0, 10, *done]))[0] == b""
    await rig.work_off()
    counts = await batches.counts("b")
    assert (counts.expired, counts.succeeded, counts.queued) == (10, 20, 0)
    assert (await rig.store.counts("b"))[JobState.EXPIRED] == 10
    assert rig.calls() == 20


async def test_a_job_that_was_answered_before_is_not_counted_as_cancelled(rig: Rig) -> None:
    """Its worker died between the commit and the finish: counts and rows disagreed for good."""
    await fill(rig, 3)
    await rig.store.record([numbered(1, job_id="b:1", batch="b", custom_id="1")])
    batches = Batches(rig.redis)
    await batches.cancel("b")
    await Cancellation(rig.redis, rig.store, rig.settings).run("b")
    counts, rows = await batches.counts("b"), await rig.store.counts("b")
    assert (counts.succeeded, counts.cancelled) == (1, 2)
    assert (rows[JobState.SUCCEEDED], rows[JobState.CANCELLED]) == (1, 2)


async def test_two_at_once_do_not_count_a_job_twice(rig: Rig) -> None:
    """Workers and `nightmill cancel` may write rows at the same time."""
    await fill(rig, 1500)
    batches = Batches(rig.redis)
    await batches.cancel("b")
    each = [Cancellation(rig.redis, rig.store, rig.settings) for _ in range(3)]
    await asyncio.gather(*(cancellation.run("b") for cancellation in each))
    counts = await batches.counts("b")
    assert (counts.cancelled, counts.waiting) == (1500, 0)


async def test_an_ended_batch_takes_no_jobs(rig: Rig) -> None:
    """An enqueue is refused at once, with an error that names the way out."""
    batches = Batches(rig.redis)
    await fill(rig, 1)
    await batches.cancel("b")
    with pytest.raises(BatchEndedError, match="--batch NAME starts a new batch"):
        await fill(rig, 1, first=1)
    with pytest.raises(BatchEndedError, match="was cancelled"):
        await open_batch(batches, "b", None)


async def test_a_passed_deadline_turns_the_queue_into_expired_rows(rig: Rig) -> None:
    """Expired jobs are not paid for, not even by a worker that has just started."""
    await fill(rig, 40)
    batches = Batches(rig.redis)
    await batches.limit("b", Change(expires_s=3600), settings=SETTINGS)
    await batches._write("b", limits='{"expires_at":1}')  # as time does
    async with rig.working():
        await until(lambda: _drained(batches))
    counts = await batches.counts("b")
    assert (counts.state, counts.expired, rig.calls()) == ("expired", 40, 0)
    assert (await rig.store.counts("b"))[JobState.EXPIRED] == 40
    await batches.limit("b", Change(expires_s=3600), settings=SETTINGS)
    await fill(rig, 1, first=40)
    await rig.work_off()
    assert (await batches.counts("b")).succeeded == 1


@pytest.mark.parametrize("first", [None, 25], ids=["from the first job", "set later"])
async def test_a_budget_of_tokens_pauses_its_batch_before_it_is_spent(
    rig: Rig, first: int | None
) -> None:
    """The batch pauses below its budget, and goes on when the budget is raised."""
    batches = Batches(rig.redis)
    if first:
        await fill(rig, first)
        await rig.work_off()
    await batches.limit("b", Change(budget_tokens=4000), settings=SETTINGS)
    await fill(rig, 200, first=first or 0, max_tokens=150)
    async with rig.working():
        await until(lambda: _held(batches))
        counts = await batches.counts("b")
        used = counts.input_tokens + counts.output_tokens
        assert counts.state == "paused: budget"
        assert 4000 - 400 < used < 4000 + 8 * 160, "over by no more than the calls in flight"
        assert "of 4000 tokens are used" in counts.reason
        await batches.limit("b", Change(budget_tokens=1_000_000), settings=SETTINGS)
        await until(lambda: _drained(batches))
    assert (await batches.counts("b")).succeeded == 200 + (first or 0)


async def test_a_budget_of_dollars_goes_by_what_the_calls_cost(rig: Rig) -> None:
    """The cost of the rows and of the batch are the same, and below the budget."""
    batches = Batches(rig.redis)
    await batches.limit("b", Change(budget_usd=0.05), settings=SETTINGS)
    await fill(rig, 200, max_tokens=150)
    async with rig.working():
        await until(lambda: _held(batches))
    counts = await batches.counts("b")
    spent = await rig.store.spent("b")
    assert counts.cost == pytest.approx(spent.cost)
    assert counts.output_tokens == spent.usage.output_tokens
    assert 0.03 < spent.cost < 0.05 + 8 * spent.cost / counts.succeeded


async def test_a_model_without_a_price_does_not_slip_under_a_budget_of_dollars(rig: Rig) -> None:
    """Calls without a known price cannot be counted: the batch pauses, with the reason.

    A job counts against the concurrency until it is finished, so no ninth one starts before that: a
    slot of the fleet is free as soon as a call is answered, and on a busy machine more jobs ended.
    """
    batches = Batches(rig.redis)
    await batches.limit("b", Change(budget_usd=1, concurrency=8), settings=SETTINGS)
    await fill(rig, 100, model="house-model-7b")
    async with rig.working():
        await until(lambda: _held(batches))
    counts = await batches.counts("b")
    assert "no price is known" in counts.reason
    assert counts.cost is None
    assert counts.succeeded <= 8


async def test_a_budget_in_tokens_lets_a_batch_without_a_price_go_on(rig: Rig) -> None:
    """The reason said to give one, and with it the batch stayed paused for ever."""
    batches = Batches(rig.redis)
    await batches.limit("b", Change(budget_usd=1), settings=SETTINGS)
    await fill(rig, 10, model="house-model-7b")
    async with rig.working():
        await until(lambda: _held(batches))
        await batches.limit("b", Change(budget_tokens=10**9), settings=SETTINGS)
        await until(lambda: _drained(batches))
    assert (await batches.counts("b")).succeeded == 10


async def test_a_batch_keeps_within_its_concurrency(redis_url: str, tmp_path: Path) -> None:
    """Two workers share one cap; the other slots of the fleet are for other batches."""
    async with rigged(redis_url, tmp_path, SimulatorConfig(latency_s=0.05)) as rig:
        batches = Batches(rig.redis)
        await batches.limit("b", Change(concurrency=3), settings=SETTINGS)
        await fill(rig, 40)
        async with rig.working(), rig.working():
            await until(lambda: _drained(batches))
        assert rig.sim.stats()["max_in_flight"] == 3


async def test_a_heavier_batch_gets_the_larger_share(rig: Rig) -> None:
    """With weights 1 and 9, nine of ten claims are for the second batch."""
    batches = Batches(rig.redis)
    await fill(rig, 300, "light")
    await fill(rig, 300, "heavy")
    await batches.limit("heavy", Change(weight=9), settings=SETTINGS)
    async with rig.working():
        await until(lambda: _drained(batches, "heavy"))
        assert (await batches.counts("light")).succeeded < 150


async def _drained(batches: Batches, batch: str = "b") -> bool:
    return (await batches.counts(batch)).drained


async def _held(batches: Batches) -> bool:
    counts = await batches.counts("b")
    return counts.held and not counts.in_flight
