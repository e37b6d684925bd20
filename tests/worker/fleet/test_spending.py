"""What a batch has spent: all calls that were ever made for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from nightmill.client.corrected import corrected
from nightmill.enqueue.feeder import Feeder
from nightmill.enqueue.known import remind
from nightmill.queue import keys
from nightmill.queue.batches import Batches
from nightmill.records.limits import Change
from nightmill.settings import load_settings
from tests.producer.enqueue.test_changes import lines
from tests.rig import Rig, rigged, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nightmill.enqueue.changes import Changed
    from nightmill.records.counts import Counts

MODEL = "claude-opus-4-6"
SETTINGS = load_settings(model=MODEL)


@pytest.fixture
async def rig(redis_url: str, tmp_path: Path) -> AsyncIterator[Rig]:
    """Return a rig without workers."""
    async with rigged(redis_url, tmp_path) as made:
        yield made


async def run(rig: Rig, text: str, changed: Changed | None = None) -> Counts:
    """Feed three lines, run them, and return the counts."""
    batches = Batches(rig.redis)
    async with Feeder("night", rig.producer, batches, rig.store, changed) as feeder:
        await feeder.feed(lines(3, text, model=MODEL))
        await rig.work_off()
        await feeder.missing(lines(3, text, model=MODEL))
    return await batches.counts("night")


def spent(counts: Counts) -> tuple[int, ...]:
    """Return what a batch has spent."""
    return (
        counts.nanodollars,
        counts.input_tokens,
        counts.output_tokens,
        counts.unpriced,
        counts.answers,
    )


async def test_a_replaced_run_is_still_paid_for(rig: Rig) -> None:
    """Its tokens and its cost vanished from status and budget when the batch was fed again."""
    first = await run(rig, "old")
    second = await run(rig, "new", "rerun")
    again = await run(rig, "new")
    assert first.nanodollars
    assert second.nanodollars > first.nanodollars
    assert spent(again) == spent(second)
    assert second.answers == rig.calls() == 6
    assert second.cost is not None
    assert second.projected_cost == pytest.approx(second.cost), "nothing is left to be called"


async def test_redis_lost_its_memory(rig: Rig) -> None:
    """What the store knows was spent stays spent: in status, and for the budget."""
    batches = Batches(rig.redis)
    await run(rig, "old")
    before = await run(rig, "new", "rerun")
    await rig.redis.flushall()
    shown = await corrected(await batches.counts("night"), "night", rig.store)
    assert spent(shown) == spent(before)
    await remind(batches, "night", rig.store)
    assert spent(await batches.counts("night")) == spent(before)
    await rig.redis.flushall()
    await rig.redis.hset(keys.BATCH + "night", "in_flight", "1")  # type: ignore[misc]
    await rig.redis.zadd(keys.batch_queue("night", MODEL), {"night:c1": 1})
    await rig.redis.sadd(keys.QUEUES_OF + "night", keys.batch_queue("night", MODEL))  # type: ignore[misc]
    await remind(batches, "night", rig.store)
    assert spent(await batches.counts("night")) == spent(before), "also while a job is in flight"


async def test_an_answer_without_usage_is_estimated_for_good(rig: Rig) -> None:
    """Feeding again set what was spent to the sum of the rows, which have 0 tokens of it."""
    await run(rig, "old")
    await rig.redis.hincrby(keys.BATCH + "night", "input_tokens", 50)  # type: ignore[misc]
    more = await Batches(rig.redis).counts("night")
    assert spent(await run(rig, "old")) == spent(more)


async def test_a_budget_goes_on_by_the_mean_of_all_answers(rig: Rig) -> None:
    """After a rerun, the first answer's job was taken to cost as much as the whole first run."""
    batches = Batches(rig.redis)
    first = await run(rig, "old")
    assert first.cost is not None
    await batches.limit("night", Change(budget_usd=2.7 * first.cost), settings=SETTINGS)
    second = await run(rig, "new", "rerun")
    assert (second.state, second.succeeded) == ("done", 3)


async def test_a_call_that_broke_off_is_paid_for_as_far_as_it_reported_its_usage(rig: Rig) -> None:
    """A stream reports its input tokens first; a call that broke off after that was free."""
    batches = Batches(rig.redis)
    rig.sim.configure(truncate=1.0)
    async with Feeder("night", rig.producer, batches, rig.store) as feeder:
        await feeder.feed(lines(1, "old", model=MODEL, stream=True))

    async def broken() -> bool:
        return bool((await batches.counts("night")).input_tokens)

    async with rig.working():
        await until(broken)
        between = await batches.counts("night")
        assert (between.answers, between.nanodollars > 0) == (0, True)
        rig.sim.configure(truncate=0.0)
        row = await rig.row("night:c1")
        await until(lambda: _is_done(batches))
    broke_off = [attempt.usage for attempt in row.attempts if attempt.usage]
    assert len(broke_off) == rig.calls() - 1 > 0
    counts = await batches.counts("night")
    paid = sum(usage.input_tokens for usage in broke_off) + row.usage.input_tokens
    assert (counts.input_tokens, counts.answers) == (paid, 1)
    assert counts.nanodollars > round((row.cost or 0) * 1e9)
    stored = await rig.store.spent("night")
    assert (stored.usage.input_tokens, stored.answers) == (paid, 1)
    assert stored.cost == pytest.approx(counts.nanodollars / 1e9)


async def _is_done(batches: Batches) -> bool:
    return (await batches.counts("night")).done
